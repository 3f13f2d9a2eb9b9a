package catalog

import (
	"slices"
	"sort"

	"disc/discovery"
	"disc/discovery/view"
)

// historySize is how many events a reader may be behind before it has to start over.
const historySize = 8192

// history keeps the newest events, for readers who come back with the revision up to
// which they have read.
type history struct {
	floor  discovery.Cursor // events up to there are not here, or not all
	newest discovery.Cursor // up to where the log is complete
	events []view.Event     // a ring when it is full
	first  int              // where the oldest is

	// Of what is watched apart there are events from where that began.
	whole     bool // everything is watched, from begun[""]
	startedAt map[string]discovery.Cursor
}

// reset starts a new log: no event before leads to this snapshot.
func (l *history) reset(at *view.Snapshot) {
	l.floor, l.newest, l.events, l.first = at.Cursor(), at.Cursor(), nil, 0
	for service := range l.startedAt {
		l.startedAt[service] = l.floor
	}
}

// addScope takes in that a part is watched from a snapshot on.
func (l *history) addScope(p discovery.Scope, at *view.Snapshot) {
	if l.startedAt == nil {
		l.startedAt = map[string]discovery.Cursor{}
	}
	l.whole = l.whole || p == everything
	l.newest = at.Cursor()
	if p.Node == "" {
		l.startedAt[p.Service] = l.newest
	}
}

// retainScopes takes in that only some parts are watched any more.
func (l *history) retainScopes(to []discovery.Scope, at *view.Snapshot) {
	begun := map[string]discovery.Cursor{}
	for _, p := range to {
		if p.Node == "" {
			begun[p.Service] = l.startOf(p.Service)
		}
	}
	l.whole, l.startedAt, l.newest = false, begun, at.Cursor()
}

// startOf returns the position from which there are events of a service, which is watched.
func (l *history) startOf(service string) discovery.Cursor {
	if begun, ok := l.startedAt[service]; ok {
		return begun
	}
	return l.startedAt[""]
}

// add appends the events that led to a snapshot. A new epoch starts a new log.
func (l *history) add(next *view.Snapshot, events []view.Event) {
	if l.newest.Epoch != next.Epoch() {
		l.reset(next)
		return
	}
	l.newest = next.Cursor()
	for _, e := range events {
		if len(l.events) < historySize {
			if len(l.events) == cap(l.events) {
				l.events = slices.Grow(l.events, min(len(l.events)+1, historySize-len(l.events)))
			}
			l.events = append(l.events, e)
			continue
		}
		l.floor = l.at(0).Cursor(l.newest.Epoch)
		l.events[l.first] = e
		l.first = (l.first + 1) % historySize
	}
}

// at returns an event by its age; 0 is the oldest.
func (l *history) at(n int) *view.Event { return &l.events[(l.first+n)%len(l.events)] }

// since returns the events after a position; see [Catalog.Events].
func (l *history) since(service string, after discovery.Cursor) ([]view.Event, bool) {
	if after.Epoch != l.newest.Epoch || after.Compare(l.floor) < 0 || after.Compare(l.newest) > 0 {
		return nil, false
	}
	if _, apart := l.startedAt[service]; !apart && !l.whole || service == "" && !l.whole || after.Compare(l.startOf(service)) < 0 {
		return nil, false
	}
	from := l.indexAfter(after)
	events := make([]view.Event, len(l.events)-from)
	for n := range events {
		events[n] = *l.at(from + n)
	}
	return events, true
}

// indexAfter returns the index of the first event after a position.
func (l *history) indexAfter(p discovery.Cursor) int {
	return sort.Search(len(l.events), func(n int) bool { return l.at(n).Cursor(p.Epoch).Compare(p) > 0 })
}
