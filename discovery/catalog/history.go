package catalog

import (
	"slices"
	"sort"

	"disc/discovery"
	"disc/discovery/view"
)

// logSize is how many events a reader may be behind before it has to start over.
const logSize = 8192

// eventLog keeps the newest events, for readers who come back with the revision up to
// which they have read.
type eventLog struct {
	floor  discovery.Cursor // events up to there are not here, or not all
	newest discovery.Cursor // up to where the log is complete
	events []view.Event     // a ring when it is full
	first  int              // where the oldest is

	// Of what is watched apart there are events from where that began.
	whole bool // everything is watched, from begun[""]
	begun map[string]discovery.Cursor
}

// begin starts a new log: no event before leads to this snapshot.
func (l *eventLog) begin(at *view.Snapshot) {
	l.floor, l.newest, l.events, l.first = at.Cursor(), at.Cursor(), nil, 0
	for service := range l.begun {
		l.begun[service] = l.floor
	}
}

// widen takes in that a part is watched from a snapshot on.
func (l *eventLog) widen(p discovery.Scope, at *view.Snapshot) {
	if l.begun == nil {
		l.begun = map[string]discovery.Cursor{}
	}
	l.whole = l.whole || p == everything
	l.newest = at.Cursor()
	if p.Node == "" {
		l.begun[p.Service] = l.newest
	}
}

// narrow takes in that only some parts are watched any more.
func (l *eventLog) narrow(to []discovery.Scope, at *view.Snapshot) {
	begun := map[string]discovery.Cursor{}
	for _, p := range to {
		if p.Node == "" {
			begun[p.Service] = l.from(p.Service)
		}
	}
	l.whole, l.begun, l.newest = false, begun, at.Cursor()
}

// from returns the position from which there are events of a service, which is watched.
func (l *eventLog) from(service string) discovery.Cursor {
	if begun, ok := l.begun[service]; ok {
		return begun
	}
	return l.begun[""]
}

// add appends the events that led to a snapshot. A new epoch starts a new log.
func (l *eventLog) add(next *view.Snapshot, events []view.Event) {
	if l.newest.Epoch != next.Epoch() {
		l.begin(next)
		return
	}
	l.newest = next.Cursor()
	for _, e := range events {
		if len(l.events) < logSize {
			if len(l.events) == cap(l.events) {
				l.events = slices.Grow(l.events, min(len(l.events)+1, logSize-len(l.events)))
			}
			l.events = append(l.events, e)
			continue
		}
		l.floor = l.at(0).Cursor(l.newest.Epoch)
		l.events[l.first] = e
		l.first = (l.first + 1) % logSize
	}
}

// at returns an event by its age; 0 is the oldest.
func (l *eventLog) at(n int) *view.Event { return &l.events[(l.first+n)%len(l.events)] }

// since returns the events after a position; see [Catalog.Events].
func (l *eventLog) since(service string, after discovery.Cursor) ([]view.Event, bool) {
	if after.Epoch != l.newest.Epoch || after.Compare(l.floor) < 0 || after.Compare(l.newest) > 0 {
		return nil, false
	}
	if _, apart := l.begun[service]; !apart && !l.whole || service == "" && !l.whole || after.Compare(l.from(service)) < 0 {
		return nil, false
	}
	from := l.after(after)
	events := make([]view.Event, len(l.events)-from)
	for n := range events {
		events[n] = *l.at(from + n)
	}
	return events, true
}

// after returns the index of the first event after a position.
func (l *eventLog) after(p discovery.Cursor) int {
	return sort.Search(len(l.events), func(n int) bool { return l.at(n).Cursor(p.Epoch).Compare(p) > 0 })
}
