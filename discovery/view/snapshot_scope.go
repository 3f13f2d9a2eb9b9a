package view

import "disc/discovery"

// Has reports whether the snapshot knows anything of a part; of everything it does not
// know what it lacks.
func (s *Snapshot) Has(p discovery.Scope) bool {
	if p.Service != "" {
		_, ok := s.Service(p.Service)
		return ok
	}
	for range s.Node(p.Node) {
		return p.Node != ""
	}
	return false
}

// Only returns the snapshot of a part, with what this one has of it.
func (s *Snapshot) Only(p discovery.Scope) *Snapshot {
	next := *s
	switch {
	case p.Service != "":
		next.services, next.nodes = nil, nil
		if service, ok := s.Service(p.Service); ok {
			next.services = next.services.with(p.Service, service)
		}
	case p.Node != "":
		next.services, next.nodes = nil, nil
		for key, n := range s.nodes.prefixed(nodePrefix(p.Node)) {
			next.nodes = next.nodes.with(key, n)
		}
	}
	return &next
}

// Without returns the snapshot without a part, in a step of its own.
func (s *Snapshot) Without(p discovery.Scope) *Snapshot {
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
