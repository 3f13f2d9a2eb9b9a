package catalog

import (
	"maps"
	"time"

	"disc/discovery"
	"disc/discovery/view"
)

// emptyServices are the services that stay known although they have nothing in etcd.
type emptyServices struct {
	remember  time.Duration        // how long a service stays known
	since     map[string]time.Time // by folded name
	nextCheck time.Time            // of expire
}

// update records whether a service is empty now.
func (e *emptyServices) update(s *view.Snapshot, name string, now time.Time) {
	if service, ok := s.Service(name); ok && service.Empty() {
		e.since[name] = now
	} else {
		delete(e.since, name)
	}
}

// retainKnown forgets the services that the snapshot does not have.
func (e *emptyServices) retainKnown(s *view.Snapshot) {
	maps.DeleteFunc(e.since, func(name string, _ time.Time) bool {
		_, ok := s.Service(name)
		return !ok
	})
}

// updateAll records which services of a listing are empty.
func (e *emptyServices) updateAll(s *view.Snapshot, now time.Time) {
	for service := range s.Services() {
		e.update(s, discovery.FoldName(service.Name), now)
	}
}

// expire removes and returns the services that have been empty for remember. It checks
// only every remember/16, since most calls are for changes of other services.
func (e *emptyServices) expire(now time.Time) []string {
	if now.Before(e.nextCheck) {
		return nil
	}
	e.nextCheck = now.Add(e.remember / 16)
	var expired []string
	for name, since := range e.since {
		if now.Sub(since) >= e.remember {
			expired = append(expired, name)
			delete(e.since, name)
		}
	}
	return expired
}
