package view

import "disc/discovery"

// Has reports whether the snapshot has the service or the node of a scope; false for the
// zero Scope.
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

// Only returns the snapshot reduced to a scope.
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

// Without returns the snapshot without the content of a scope, one step later.
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

// With returns the snapshot with the services and nodes of other, which was read later, in
// place of its own. over means that etcd started over before other was read, so that
// other's revision counts even if it is lower.
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

// advanceTo moves the snapshot, all of which may have changed, to a revision or, if it is
// there already, one step further.
func (s *Snapshot) advanceTo(revision int64) {
	if revision == s.revision {
		s.step++
	} else {
		s.revision, s.step = revision, 0
	}
	s.servicesRevision, s.servicesStep, s.nodesRevision = s.revision, s.step, s.revision
}
