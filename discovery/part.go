package discovery

import (
	"strings"
)

// Part is a part of a namespace that can be watched by itself: a service, or the
// agents on a node. The zero value is all of it.
type Part struct {
	Service string // folded
	Node    string // as written
}

// PartsOf returns the parts that the answer to a lookup name may lie in; none for a name
// of no known form and for one that lists services. exact says that a service of just
// that name comes first, as over HTTP.
func PartsOf(name, domain string, exact bool) []Part {
	var parts []Part
	if exact && ValidateService(name) == nil {
		parts = append(parts, Part{Service: FoldName(name)})
	}
	parsed, err := ParseName(name, domain)
	switch {
	case err != nil || parsed.Kind == NameBrowse:
	case parsed.Kind == NameNode:
		parts = append(parts, Part{Node: parsed.Node})
	case len(parts) == 0 || parts[0].Service != FoldName(parsed.Service):
		parts = append(parts, Part{Service: FoldName(parsed.Service)})
	}
	return parts
}

// PartRange returns the half-open range [from, to) that holds a part and nothing else.
func (k Keys) PartRange(p Part) (from, to string) {
	switch {
	case p.Service != "":
		from = k.Service(p.Service)
	case p.Node != "":
		from = k.Nodes() + p.Node + "/"
	default:
		return k.CatalogRange()
	}
	return from, strings.TrimSuffix(from, "/") + "0" // '0' follows '/'
}

// PartOf returns the part whose range begins at a key.
func (k Keys) PartOf(from string) Part {
	if service, ok := strings.CutPrefix(from, k.Services()); ok {
		return Part{Service: strings.TrimSuffix(service, "/")}
	}
	return Part{Node: strings.TrimSuffix(strings.TrimPrefix(from, k.Nodes()), "/")}
}
