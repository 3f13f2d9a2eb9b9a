package catalog

import (
	"cmp"
	"slices"
	"time"

	"disc/discovery"
	"disc/discovery/changelog"
	"disc/discovery/view"
)

// The changelog gets what readers of the view see change. It outlives what the history for readers
// with a cursor does not: a gap, another life of etcd, and scopes that come and go. Run alone adds
// to it, before the change is published.

// recordEvents records the events that lead from a snapshot to the next. listed: they were found
// by comparing with etcd.
func (c *Catalog) recordEvents(before *view.Snapshot, events []view.Event, broken []discovery.BrokenRecord, listed bool) {
	if c.options.Changes == nil || len(events) == 0 {
		return
	}
	var latest map[instanceKey]*view.Entry // of the instances with an event so far
	if len(events) > 1 {
		latest = make(map[instanceKey]*view.Entry, len(events))
	}
	entries := make([]changelog.Entry, 0, len(events))
	now := time.Now()
	for _, e := range events {
		i := instanceKey{discovery.FoldName(e.Service), e.ID}
		was, ok := latest[i]
		if !ok {
			was = entryOf(before, i)
		}
		if latest != nil {
			latest[i] = e.Entry
		}
		found := listed || c.suspects.isListed(i)
		if entry, ok := changelog.Compare(was, e.Entry, goneReason(e, broken, found)); ok {
			entry.Revision, entry.Seen, entry.Listed = e.Revision, now, found
			entries = append(entries, entry)
		}
	}
	c.options.Changes.Add(entries...)
}

// entryOf returns the entry of an instance in a snapshot; nil: it has none.
func entryOf(s *view.Snapshot, i instanceKey) *view.Entry {
	service, ok := s.Service(i.service)
	if !ok {
		return nil
	}
	e, _ := service.Entry(i.id)
	return e
}

// goneReason returns the reason for which the instance of an event is gone, if it is.
func goneReason(e view.Event, broken []discovery.BrokenRecord, listed bool) discovery.ChangeReason {
	for _, b := range broken {
		if b.Modified == e.Revision && b.Key.ID == e.ID && b.Key.Service == discovery.FoldName(e.Service) {
			return discovery.ReasonUnreadable
		}
	}
	switch {
	case e.Reason == view.ReasonLeft:
		return discovery.ReasonLeft
	case listed:
		return discovery.ReasonNotFound
	case e.Reason == view.ReasonRemoved:
		return discovery.ReasonRemoved
	}
	return discovery.ReasonExpired
}

// recordListing records what the listing of a scope shows: the changes since the view had the
// scope or, if it had not, that the scope is watched from here on.
func (c *Catalog) recordListing(scope discovery.Scope, before, after *view.Snapshot, startedOver bool) {
	log := c.options.Changes
	if log == nil || scope.Node != "" {
		return
	}
	if !log.Watches(scope.Service) {
		log.Watch(scope.Service, after.Revision(), time.Now())
		return
	}
	if startedOver {
		c.recordBreak(discovery.ChangeStartedOver, after.Revision())
	} else {
		c.recordGap(after.Revision())
	}
	now := time.Now()
	var entries []changelog.Entry
	for service, id := range after.Only(scope).ChangedSince(before) {
		i := instanceKey{service, id}
		is := entryOf(after, i)
		if entry, ok := changelog.Compare(entryOf(before, i), is, discovery.ReasonNotFound); ok {
			entry.Revision, entry.Seen, entry.Listed = after.Revision(), now, true
			if is != nil && !is.Suspect {
				entry.Revision = is.Revision
			}
			entries = append(entries, entry)
		}
	}
	slices.SortStableFunc(entries, func(a, b changelog.Entry) int { return cmp.Compare(a.Revision, b.Revision) })
	log.Add(entries...)
}

// recordGap records that the catalog was cut off from etcd, once for all scopes: the changes since
// it last was confirmed are found by comparing.
func (c *Catalog) recordGap(revision int64) { c.recordBreak(discovery.ChangeGap, revision) }

func (c *Catalog) recordBreak(kind discovery.ChangeKind, revision int64) {
	s := c.state.Load()
	if c.options.Changes == nil || s == nil || s.confirmed.Equal(c.lastGap) && (kind == c.lastBreak || kind == discovery.ChangeGap) {
		return
	}
	c.lastGap, c.lastBreak = s.confirmed, kind
	c.options.Changes.Add(changelog.Entry{Revision: revision, Seen: time.Now(), Kind: kind, Since: s.confirmed})
}

// recordRestored records that the changes begin with the last good view.
func (c *Catalog) recordRestored(s *state) {
	if s.whole {
		c.options.Changes.Watch("", s.snapshot.Revision(), s.confirmed)
		return
	}
	for service := range s.snapshot.Services() {
		c.options.Changes.Watch(service.Name, s.snapshot.Revision(), s.confirmed)
	}
}

// recordNarrowed records that only some scopes are watched from here on.
func (c *Catalog) recordNarrowed(next *view.Snapshot, watched []discovery.Scope) {
	if c.options.Changes == nil {
		return
	}
	services := map[string]bool{}
	for _, scope := range watched {
		if scope.Node == "" {
			services[scope.Service] = true
		}
	}
	var known []string
	for service := range cmp.Or(c.snapshot(), view.EmptySnapshot()).Services() {
		known = append(known, service.Name)
	}
	c.options.Changes.Narrow(services, known, next.Revision(), time.Now())
}
