package discovery

import (
	"strconv"
	"strings"
)

// root is the prefix of all keys of disc, with the version of the layout.
const root = "/disc/v1/"

// Keys is the layout of one namespace in etcd. Every prefix ends in "/", so that a list
// or a watch of "web" never finds "web2". Service names are folded (see [FoldName]),
// instance ids are as written.
type Keys struct{ prefix string }

// NewKeys returns the layout of a namespace, whose name must be valid. Names of
// namespaces, like those of services, are compared without regard to case.
func NewKeys(namespace string) Keys { return Keys{root + FoldName(namespace) + "/"} }

// Namespaces returns the prefix of all namespaces.
func Namespaces() string { return root }

// Prefix returns the prefix of the whole namespace.
func (k Keys) Prefix() string { return k.prefix }

// Services returns the prefix of all services.
func (k Keys) Services() string { return k.prefix + "services/" }

// Service returns the prefix of one service: its records, static entries, overrides,
// load reports and orders on suspects.
func (k Keys) Service(service string) string { return k.Services() + FoldName(service) + "/" }

// Instance returns the key of a record. The agent that owns it writes it.
func (k Keys) Instance(service, id string) string { return k.Service(service) + "instances/" + id }

// Static returns the key of a static entry.
func (k Keys) Static(service, id string) string { return k.Service(service) + "static/" + id }

// Override returns the key of an operator's override.
func (k Keys) Override(service, id string) string { return k.Service(service) + "overrides/" + id }

// Load returns the key of an instance's load report. The agent that owns the record writes
// it.
func (k Keys) Load(service, id string) string { return k.Service(service) + "load/" + id }

// SuspectOrder returns the key of an operator's order on an instance that vanished together with
// many others, a [SuspectOrder]. It is on a lease.
func (k Keys) SuspectOrder(service, id string) string { return k.Service(service) + "suspects/" + id }

// Nodes returns the prefix of all agents.
func (k Keys) Nodes() string { return k.prefix + "nodes/" }

// Node returns the key of one agent on a node.
func (k Keys) Node(node, agent string) string { return k.Nodes() + node + "/" + agent }

// KV returns the prefix of the users' own keys.
func (k Keys) KV() string { return k.prefix + "kv/" }

// KVUsage returns the key of the last count of the users' own keys.
func (k Keys) KVUsage() string { return k.prefix + "usage/kv" }

// KVCounted returns the key that exists, on a lease, for as long as nobody else is to count the
// users' own keys.
func (k Keys) KVCounted() string { return k.prefix + "usage/counted" }

// Level returns the key of the feature level of the namespace, a [LevelRecord].
func (k Keys) Level() string { return k.prefix + "level/state" }

// LevelChecked returns the key that exists, on a lease, for as long as no agent is to check again
// whether the feature level can rise. Its value is the level that the checker can read: agents that
// can read a higher one may check.
func (k Keys) LevelChecked() string { return k.prefix + "level/checked" }

// LevelCounting returns the key that exists, on a lease, for as long as the next check goes on with the
// count of clean ones. Its value is the epoch.
func (k Keys) LevelCounting() string { return k.prefix + "level/counting" }

// Epoch returns the key of a random id that is lost when etcd's data is, so that another
// id means that revisions start again.
func (k Keys) Epoch() string { return k.prefix + "epoch" }

// Quarantine returns the key that exists, on a lease, for as long as nothing is granted after
// etcd was found to have started over.
func (k Keys) Quarantine() string { return k.prefix + "quarantine" }

// FenceBase returns the key of the number that is added to the create revision of a grant's key to
// get its fence. It rises when etcd starts over, so that fences never go down; absent: 0.
func (k Keys) FenceBase() string { return k.prefix + "base" }

// QuarantineLength returns the key of the length of quarantines in the namespace; absent: the
// default.
func (k Keys) QuarantineLength() string { return k.prefix + "settings/quarantine" }

// Locks returns the prefix of all locks.
func (k Keys) Locks() string { return k.prefix + "locks/" }

// Lock returns the prefix of a lock's holders and waiters, whose order is that of their
// create revisions.
func (k Keys) Lock(name string) string { return k.Locks() + name + "/" }

// Limits returns the prefix of the policies of all limits.
func (k Keys) Limits() string { return k.prefix + "limits/" }

// Limit returns the key of a limit's policy.
func (k Keys) Limit(name string) string { return k.Limits() + name }

// Ledger returns the key of a limit's ledger, which counts the tokens ever granted.
func (k Keys) Ledger(name string) string { return k.prefix + "ledger/" + name }

// Claims returns the prefix of the claims on all services.
func (k Keys) Claims() string { return k.prefix + "claims/" }

// ClaimsOf returns the prefix of the claims on one service.
func (k Keys) ClaimsOf(service string) string { return k.Claims() + FoldName(service) + "/" }

// Claim returns the key of the claim on one slot of an instance.
func (k Keys) Claim(service, id string, slot int) string {
	return k.ClaimsOf(service) + id + "/" + strconv.Itoa(slot)
}

// ParseClaim returns the service and the instance of the key of a claim. ok is false for
// other keys.
func (k Keys) ParseClaim(key string) (service, id string, ok bool) {
	rest, ok := strings.CutPrefix(key, k.Claims())
	part := strings.Split(rest, "/")
	if !ok || len(part) != 3 {
		return "", "", false
	}
	return part[0], part[1], true
}

// CatalogRange returns the half-open range [from, to) of all nodes and services. Of the other keys
// of the layout only the quarantine's sorts between them, so one list and one watch cover both.
func (k Keys) CatalogRange() (from, to string) {
	return k.Nodes(), k.prefix + "services0" // '0' follows '/'
}

// KeyKind is the kind of value under a key of the catalog.
type KeyKind int

// The kinds of keys that [Keys.Parse] tells apart.
const (
	KeyOther KeyKind = iota // no key of the catalog
	KeyInstance
	KeyStatic
	KeyOverride
	KeyLoad
	KeyNode
	KeySuspectOrder
	KeyQuarantine // between the nodes and the services, and part of neither
)

func (k KeyKind) String() string {
	return [...]string{"key", "record", "static entry", "override", "load report", "node", "order on a suspect", "quarantine"}[k]
}

// Key is a parsed key of the catalog.
type Key struct {
	Kind    KeyKind
	Service string // folded; empty for KeyNode
	ID      string // instance id, or agent id for KeyNode
	Node    string // KeyNode only
}

// owner returns the service or node that a key belongs to.
func (k Key) owner() string {
	if k.Kind == KeyNode {
		return k.Node
	}
	return k.Service
}

// Parse parses a key of the catalog. Any other key is of kind KeyOther.
func (k Keys) Parse(key string) Key {
	rest, ok := strings.CutPrefix(key, k.prefix)
	if !ok {
		return Key{}
	}
	what, rest, _ := strings.Cut(rest, "/")
	owner, rest, ok := strings.Cut(rest, "/")
	switch {
	case key == k.Quarantine():
		return Key{Kind: KeyQuarantine}
	case ok && what == "nodes":
		return parseNodeKey(owner, rest)
	case ok && what == "services":
		part, id, _ := strings.Cut(rest, "/")
		return parseEntryKey(owner, part, id)
	}
	return Key{}
}

// Name returns the key as etcd stores it, the reverse of [Keys.Parse]; "" for KeyOther.
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
	case KeySuspectOrder:
		return k.SuspectOrder(key.Service, key.ID)
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
	case "suspects":
		k.Kind = KeySuspectOrder
	default:
		return Key{}
	}
	return k
}
