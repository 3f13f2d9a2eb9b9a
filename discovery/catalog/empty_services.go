package catalog

import (
	"maps"
	"time"

	"disc/discovery"
	"disc/discovery/view"
)

// departed are the services that are known although nothing of them is left.
type departed struct {
	remember time.Duration        // for how long
	since    map[string]time.Time // by folded name
	next     time.Time            // when to look for old ones again
}

// note takes in how a service stands.
func (d *departed) note(s *view.Snapshot, name string, now time.Time) {
	if service, ok := s.Service(name); ok && service.Empty() {
		d.since[name] = now
	} else {
		delete(d.since, name)
	}
}

// keep forgets the services that are not known any more.
func (d *departed) keep(s *view.Snapshot) {
	maps.DeleteFunc(d.since, func(name string, _ time.Time) bool {
		_, ok := s.Service(name)
		return !ok
	})
}

// noteAll takes in how all services of a list stand.
func (d *departed) noteAll(s *view.Snapshot, now time.Time) {
	for service := range s.Services() {
		d.note(s, discovery.FoldName(service.Name), now)
	}
}

// old returns the services that have been empty for long, and lets them go. It looks
// now and then only, since most calls come from changes of others.
func (d *departed) old(now time.Time) []string {
	if now.Before(d.next) {
		return nil
	}
	d.next = now.Add(d.remember / 16)
	var old []string
	for name, since := range d.since {
		if now.Sub(since) >= d.remember {
			old = append(old, name)
			delete(d.since, name)
		}
	}
	return old
}
