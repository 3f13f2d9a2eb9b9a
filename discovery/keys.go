package discovery

import "strings"

// root is where disc keeps everything in etcd, with the version of the layout.
const root = "/disc/v1/"

// Keys is the layout of one namespace in etcd. Every prefix that is ranged or
// watched ends in "/", so that "web" never finds "web2". Service names appear
// folded (see [FoldName]), instance ids as written.
type Keys struct{ prefix string }

// NewKeys returns the layout of a namespace, whose name must be valid.
func NewKeys(namespace string) Keys { return Keys{root + namespace + "/"} }

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

// Nodes is the prefix of all agents.
func (k Keys) Nodes() string { return k.prefix + "nodes/" }

// Node is the key of one agent on a node.
func (k Keys) Node(node, agent string) string { return k.Nodes() + node + "/" + agent }

// Epoch is the key of the random id that tells one life of an etcd from the next.
func (k Keys) Epoch() string { return k.prefix + "epoch" }

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
	KeyNode
)

// Key is a parsed key of the catalog.
type Key struct {
	Kind    KeyKind
	Service string // folded; empty for KeyNode
	ID      string // instance id, or agent id for KeyNode
	Node    string // KeyNode only
}

// Parse takes a key apart. Keys that are not of this layout are KeyOther.
func (k Keys) Parse(key string) Key {
	rest, ok := strings.CutPrefix(key, k.prefix)
	if !ok {
		return Key{}
	}
	part := strings.Split(rest, "/")
	switch {
	case len(part) == 3 && part[0] == "nodes" && ValidateNode(part[1]) == nil && part[2] != "":
		return Key{Kind: KeyNode, Node: part[1], ID: part[2]}
	case len(part) == 4 && part[0] == "services" && ValidateService(part[1]) == nil &&
		part[1] == FoldName(part[1]) && ValidateID(part[3]) == nil:
		if kind, ok := entryKinds[part[2]]; ok {
			return Key{Kind: kind, Service: part[1], ID: part[3]}
		}
	}
	return Key{}
}

var entryKinds = map[string]KeyKind{"instances": KeyInstance, "static": KeyStatic, "overrides": KeyOverride}
