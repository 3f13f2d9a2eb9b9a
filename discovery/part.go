package discovery

import (
	"strings"
	"sync"
	"sync/atomic"
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

// Has reports whether the snapshot knows anything of a part; of everything it does not
// know what it lacks.
func (s *Snapshot) Has(p Part) bool {
	if p.Service != "" {
		_, ok := s.Service(p.Service)
		return ok
	}
	for range s.Node(p.Node) {
		return p.Node != ""
	}
	return false
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

// Only returns the snapshot of a part, with what this one has of it.
func (s *Snapshot) Only(p Part) *Snapshot {
	next := *s
	switch {
	case p.Service != "":
		next.services, next.nodes = nil, nil
		if service, ok := s.Service(p.Service); ok {
			next.services = next.services.with(p.Service, service)
		}
	case p.Node != "":
		next.services, next.nodes = nil, nil
		for n := range s.Node(p.Node) {
			next.nodes = next.nodes.with(nodeKey(n.Node, n.Agent), n)
		}
	}
	return &next
}

// Without returns the snapshot without a part, in a step of its own.
func (s *Snapshot) Without(p Part) *Snapshot {
	next := *s
	switch {
	case p.Service != "":
		next.services = s.services.without(p.Service)
	case p.Node != "":
		for n := range s.Node(p.Node) {
			next.nodes = next.nodes.without(nodeKey(n.Node, n.Agent))
		}
	default:
		next.services, next.nodes = nil, nil
	}
	next.moveTo(s.revision)
	return &next
}

// With returns the snapshot with the services and nodes of another, which was read
// later, in place of its own. over says that the other is of an etcd that started over.
func (s *Snapshot) With(other *Snapshot, over bool) *Snapshot {
	next := *s
	next.epoch = other.epoch
	for key, service := range other.services.all() {
		next.services = next.services.with(key, service)
	}
	for key, node := range other.nodes.all() {
		next.nodes = next.nodes.with(key, node)
	}
	if over {
		next.moveTo(other.revision)
	} else {
		next.moveTo(max(s.revision, other.revision))
	}
	return &next
}

// moveTo gives the snapshot, all of which may have changed, another place: at a revision
// or, where it is there already, in a step of its own.
func (s *Snapshot) moveTo(revision int64) {
	if revision == s.revision {
		s.step++
	} else {
		s.revision, s.step = revision, 0
	}
	s.servicesRevision, s.servicesStep, s.nodesRevision = s.revision, s.step, s.revision
}

// TakeUsed reports whether the service was looked up, by [Lookup] or from what Memo
// keeps, since TakeUsed was last called.
func (s *Service) TakeUsed() bool { return s.used != nil && s.used.Load() && s.used.Swap(false) }

// newService returns a service without instances.
func newService(name string) *Service {
	return &Service{Name: name, used: new(atomic.Bool), memo: new(sync.Map)}
}
