package discovery

import "strings"

// Scope is a part of a namespace that can be watched by itself: a service, or the agents
// on a node. The zero value is the whole namespace.
type Scope struct {
	Service string // folded
	Node    string // as written
}

// ScopesOf returns the scopes that a lookup of name may need; none for a name that cannot
// be parsed and for one that lists services. exact means that a service of exactly that
// name takes precedence, as over HTTP.
func ScopesOf(name, domain string, exact bool) []Scope {
	var scopes []Scope
	if exact && ValidateService(name) == nil {
		scopes = append(scopes, Scope{Service: FoldName(name)})
	}
	parsed, err := ParseName(name, domain)
	switch {
	case err != nil || parsed.Kind == NameBrowse:
	case parsed.Kind == NameNode:
		scopes = append(scopes, Scope{Node: parsed.Node})
	case len(scopes) == 0 || scopes[0].Service != FoldName(parsed.Service):
		scopes = append(scopes, Scope{Service: FoldName(parsed.Service)})
	}
	return scopes
}

// ScopeRange returns the half-open range [from, to) of the keys of a scope.
func (k Keys) ScopeRange(s Scope) (from, to string) {
	switch {
	case s.Service != "":
		from = k.Service(s.Service)
	case s.Node != "":
		from = k.Nodes() + s.Node + "/"
	default:
		return k.CatalogRange()
	}
	return from, strings.TrimSuffix(from, "/") + "0" // '0' follows '/'
}

// ScopeOf returns the scope whose range begins at a key.
func (k Keys) ScopeOf(from string) Scope {
	if service, ok := strings.CutPrefix(from, k.Services()); ok {
		return Scope{Service: strings.TrimSuffix(service, "/")}
	}
	return Scope{Node: strings.TrimSuffix(strings.TrimPrefix(from, k.Nodes()), "/")}
}
