package envoy

import (
	"slices"

	"disc/discovery"
	"disc/discovery/view"
)

// subscription is the set of services that a stream's response depends on. It retains
// them in the view.
type subscription struct {
	catalog  Catalog
	services []string          // "" is all
	scopes   []discovery.Scope // of the view that the services lie in
	release  func()            // ends the retention

	// What the last call of advance saw; nil indexes: there was none, or invalidate came after.
	epoch   string
	indexes []int64 // of the services, in their order
}

// newSubscription returns one without services. Its release has to be called at the end.
func newSubscription(c Catalog) *subscription { return &subscription{catalog: c, release: func() {}} }

// set replaces the services. The new ones are retained before the old are released.
func (s *subscription) set(services []string) {
	if slices.Equal(services, s.services) {
		return
	}
	s.services, s.scopes, s.indexes = services, scopesOf(services), nil
	release := s.release
	s.release = s.catalog.Retain(s.scopes...)
	release()
}

// changed returns channels of which one is closed at the next change that may concern the
// subscription. A channel that is not needed is nil. The one or two services that the name
// of one cluster stands for have signals of their own, so that a stream for one cluster, of
// which Envoy may open a thousand, sleeps through the changes of others. A stream for more,
// of which each Envoy has one, wakes at any change, and [subscription.advance] compares the
// versions of its services, at some 0.2 µs each.
func (s *subscription) changed() (one, other <-chan struct{}) {
	switch len(s.services) {
	case 0:
		return nil, nil
	case 1:
		return s.catalog.Changed(s.services[0]), nil
	case 2:
		return s.catalog.Changed(s.services[0]), s.catalog.Changed(s.services[1])
	}
	return s.catalog.Changed(""), nil
}

// invalidate makes the next call of advance report a change.
func (s *subscription) invalidate() { s.indexes = nil }

// complete reports whether the view has read the services, as far as they exist.
func (s *subscription) complete() bool { return s.catalog.Has(s.scopes...) }

// advance reports whether the version of a service differs from that in the snapshot of the
// last call.
func (s *subscription) advance(now *view.Snapshot) (changed bool) {
	if s.indexes == nil || s.epoch != now.Epoch() {
		s.epoch, s.indexes, changed = now.Epoch(), make([]int64, len(s.services)), true
	}
	for n, name := range s.services {
		if name == "" {
			return true
		}
		if index := indexOf(now, name); index != s.indexes[n] {
			s.indexes[n], changed = index, true
		}
	}
	return changed
}

// indexOf returns the index of a service; 0 if there is none.
func indexOf(s *view.Snapshot, name string) int64 {
	if service, ok := s.Service(name); ok {
		return service.Index()
	}
	return 0
}
