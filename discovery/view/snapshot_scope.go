package view

import "disc/discovery"

// Has reports whether the snapshot knows anything of a part; of everything it does not
// know what it lacks.
func (s *Snapshot) Has(scope discovery.Scope) bool {
	if scope.Service != "" {
		_, ok := s.Service(scope.Service)
		return ok
	}
	for range s.Node(scope.Node) {
		return scope.Node != ""
	}
	return false
}

// Only returns the snapshot of a part, with what this one has of it.
func (s *Snapshot) Only(scope discovery.Scope) *Snapshot {
	next := *s
	switch {
	case scope.Service != "":
		next.services, next.nodes = nil, nil
		if service, ok := s.Service(scope.Service); ok {
			next.services = next.services.with(scope.Service, service)
		}
	case scope.Node != "":
		next.services, next.nodes = nil, nil
		for key, n := range s.nodes.prefixed(nodePrefix(scope.Node)) {
			next.nodes = next.nodes.with(key, n)
		}
	}
	return &next
}

// Without returns the snapshot without a part, in a step of its own.
func (s *Snapshot) Without(scope discovery.Scope) *Snapshot {
	next := *s
	switch {
	case scope.Service != "":
		next.services = s.services.without(scope.Service)
	case scope.Node != "":
		for n := range s.Node(scope.Node) {
			next.nodes = next.nodes.without(nodeKey(n.Node, n.Agent))
		}
	default:
		next.services, next.nodes = nil, nil
	}
	next.advanceTo(s.revision)
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
		next.advanceTo(other.revision)
	} else {
		next.advanceTo(max(s.revision, other.revision))
	}
	return &next
}

// advanceTo gives the snapshot, all of which may have changed, another place: at a revision
// or, where it is there already, in a step of its own.
func (s *Snapshot) advanceTo(revision int64) {
	if revision == s.revision {
		s.step++
	} else {
		s.revision, s.step = revision, 0
	}
	s.servicesRevision, s.servicesStep, s.nodesRevision = s.revision, s.step, s.revision
}
