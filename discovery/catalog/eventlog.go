package catalog

import (
	"slices"
	"sort"

	"disc/discovery"
)

// logSize is how many events a reader may be behind before it has to start over.
const logSize = 8192

// eventLog keeps the newest events, for readers who come back with the revision up to
// which they have read.
type eventLog struct {
	floor  discovery.Position // events up to there are not here, or not all
	newest discovery.Position // up to where the log is complete
	events []discovery.Event
}

// begin starts a new log: no event before leads to this snapshot.
func (l *eventLog) begin(at *discovery.Snapshot) {
	*l = eventLog{floor: at.Position(), newest: at.Position()}
}

// add appends the events that led to a snapshot. A new epoch starts a new log.
func (l *eventLog) add(next *discovery.Snapshot, events []discovery.Event) {
	if l.newest.Epoch != next.Epoch() {
		l.begin(next)
		return
	}
	l.newest = next.Position()
	l.events = append(l.events, events...)
	if excess := len(l.events) - logSize; excess > logSize/4 { // now and then, not each time
		l.floor = l.events[excess-1].Position(l.newest.Epoch)
		l.events = slices.Clone(l.events[excess:])
	}
}

// since returns the events after a position; see [Catalog.Events].
func (l *eventLog) since(after discovery.Position) ([]discovery.Event, bool) {
	if after.Epoch != l.newest.Epoch || after.Compare(l.floor) < 0 || after.Compare(l.newest) > 0 {
		return nil, false
	}
	return slices.Clip(l.events[l.after(after):]), true
}

// after returns the index of the first event after a position.
func (l *eventLog) after(p discovery.Position) int {
	return sort.Search(len(l.events), func(n int) bool { return l.events[n].Position(p.Epoch).Compare(p) > 0 })
}
