package discovery

import (
	"strconv"
	"strings"
)

// root is where disc keeps everything in etcd, with the version of the layout.
const root = "/disc/v1/"

// Keys is the layout of one namespace in etcd. Every prefix that is ranged or
// watched ends in "/", so that "web" never finds "web2". Service names appear
// folded (see [FoldName]), instance ids as written.
type Keys struct{ prefix string }

// NewKeys returns the layout of a namespace, whose name must be valid. Like services,
// namespaces are compared without regard to case.
func NewKeys(namespace string) Keys { return Keys{root + FoldName(namespace) + "/"} }

// Namespaces is the prefix under which all namespaces lie.
func Namespaces() string { return root }

// Prefix is the prefix of the whole namespace.
func (k Keys) Prefix() string { return k.prefix }

// Services is the prefix of all services.
func (k Keys) Services() string { return k.prefix + "services/" }

// Service is the prefix of all that a lookup of one service needs.
func (k Keys) Service(service string) string { return k.Services() + FoldName(service) + "/" }

// Instance is the key of a record, written by the agent that owns it.
func (k Keys) Instance(service, id string) string { return k.Service(service) + "instances/" + id }

// Static is the key of a static entry.
func (k Keys) Static(service, id string) string { return k.Service(service) + "static/" + id }

// Override is the key of an operator's override.
func (k Keys) Override(service, id string) string { return k.Service(service) + "overrides/" + id }

// Load is the key of an instance's load report, written by the agent that owns its record.
func (k Keys) Load(service, id string) string { return k.Service(service) + "load/" + id }

// Nodes is the prefix of all agents.
func (k Keys) Nodes() string { return k.prefix + "nodes/" }

// Node is the key of one agent on a node.
func (k Keys) Node(node, agent string) string { return k.Nodes() + node + "/" + agent }

// KV is the prefix of the users' keys.
func (k Keys) KV() string { return k.prefix + "kv/" }

// Epoch is the key of the random id that tells one life of an etcd from the next.
func (k Keys) Epoch() string { return k.prefix + "epoch" }

// Locks is the prefix of all locks.
func (k Keys) Locks() string { return k.prefix + "locks/" }

// Lock is the prefix of those who hold a lock and wait for it, in the order of their
// create revisions.
func (k Keys) Lock(name string) string { return k.Locks() + name + "/" }

// Limits is the prefix of the policies of all limits.
func (k Keys) Limits() string { return k.prefix + "limits/" }

// Limit is the key of a limit's policy.
func (k Keys) Limit(name string) string { return k.Limits() + name }

// Ledger is the key of a limit's ledger: what of it was ever sold.
func (k Keys) Ledger(name string) string { return k.prefix + "ledger/" + name }

// Claims is the prefix of the claims on all services.
func (k Keys) Claims() string { return k.prefix + "claims/" }

// ClaimsOf is the prefix of the claims on one service.
func (k Keys) ClaimsOf(service string) string { return k.Claims() + FoldName(service) + "/" }

// Claim is the key of the claim on one slot of an instance.
func (k Keys) Claim(service, id string, slot int) string {
	return k.ClaimsOf(service) + id + "/" + strconv.Itoa(slot)
}

// ParseClaim takes the key of a claim apart. ok is false for keys that are none.
func (k Keys) ParseClaim(key string) (service, id string, ok bool) {
	rest, ok := strings.CutPrefix(key, k.Claims())
	part := strings.Split(rest, "/")
	if !ok || len(part) != 3 {
		return "", "", false
	}
	return part[0], part[1], true
}

// CatalogRange returns the half-open range [from, to) that holds all nodes and
// services and nothing else: no other part of the layout sorts between them, so
// one list and one watch cover both.
func (k Keys) CatalogRange() (from, to string) {
	return k.Nodes(), k.prefix + "services0" // '0' follows '/'
}

// KeyKind is what a key of the catalog holds.
type KeyKind int

// The kinds of keys that [Keys.Parse] knows.
const (
	KeyOther KeyKind = iota
	KeyInstance
	KeyStatic
	KeyOverride
	KeyLoad
	KeyNode
)

func (k KeyKind) String() string {
	return [...]string{"key", "record", "static entry", "override", "load report", "node"}[k]
}

// Key is a parsed key of the catalog.
type Key struct {
	Kind    KeyKind
	Service string // folded; empty for KeyNode
	ID      string // instance id, or agent id for KeyNode
	Node    string // KeyNode only
}

// owner is the service or node under which a key lies.
func (k Key) owner() string {
	if k.Kind == KeyNode {
		return k.Node
	}
	return k.Service
}

// Parse takes a key apart. Keys that are not of this layout are KeyOther.
func (k Keys) Parse(key string) Key {
	rest, ok := strings.CutPrefix(key, k.prefix)
	if !ok {
		return Key{}
	}
	what, rest, _ := strings.Cut(rest, "/")
	owner, rest, ok := strings.Cut(rest, "/")
	switch {
	case ok && what == "nodes":
		return parseNodeKey(owner, rest)
	case ok && what == "services":
		part, id, _ := strings.Cut(rest, "/")
		return parseEntryKey(owner, part, id)
	}
	return Key{}
}

// Name is a key as it stands in etcd: the reverse of [Keys.Parse], but for KeyOther.
func (k Keys) Name(key Key) string {
	switch key.Kind {
	case KeyInstance:
		return k.Instance(key.Service, key.ID)
	case KeyStatic:
		return k.Static(key.Service, key.ID)
	case KeyOverride:
		return k.Override(key.Service, key.ID)
	case KeyLoad:
		return k.Load(key.Service, key.ID)
	case KeyNode:
		return k.Node(key.Node, key.ID)
	}
	return ""
}

func parseNodeKey(node, agent string) Key {
	if ValidateNode(node) != nil || ValidateID(agent) != nil {
		return Key{}
	}
	return Key{Kind: KeyNode, Node: node, ID: agent}
}

func parseEntryKey(service, part, id string) Key {
	if ValidateService(service) != nil || service != FoldName(service) || ValidateID(id) != nil {
		return Key{}
	}
	k := Key{Service: service, ID: id}
	switch part {
	case "instances":
		k.Kind = KeyInstance
	case "static":
		k.Kind = KeyStatic
	case "overrides":
		k.Kind = KeyOverride
	case "load":
		k.Kind = KeyLoad
	default:
		return Key{}
	}
	return k
}
