package catalog

import (
	"maps"
	"time"

	"disc/discovery"
	"disc/discovery/view"
)

// emptyServices are the services that are known although nothing of them is left.
type emptyServices struct {
	remember  time.Duration        // for how long
	since     map[string]time.Time // by folded name
	nextCheck time.Time            // when to look for old ones again
}

// update takes in how a service stands.
func (d *emptyServices) update(s *view.Snapshot, name string, now time.Time) {
	if service, ok := s.Service(name); ok && service.Empty() {
		d.since[name] = now
	} else {
		delete(d.since, name)
	}
}

// retainKnown forgets the services that are not known any more.
func (d *emptyServices) retainKnown(s *view.Snapshot) {
	maps.DeleteFunc(d.since, func(name string, _ time.Time) bool {
		_, ok := s.Service(name)
		return !ok
	})
}

// updateAll takes in how all services of a list stand.
func (d *emptyServices) updateAll(s *view.Snapshot, now time.Time) {
	for service := range s.Services() {
		d.update(s, discovery.FoldName(service.Name), now)
	}
}

// expire returns the services that have been empty for long, and lets them go. It looks
// now and then only, since most calls come from changes of others.
func (d *emptyServices) expire(now time.Time) []string {
	if now.Before(d.nextCheck) {
		return nil
	}
	d.nextCheck = now.Add(d.remember / 16)
	var old []string
	for name, since := range d.since {
		if now.Sub(since) >= d.remember {
			old = append(old, name)
			delete(d.since, name)
		}
	}
	return old
}
