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
	epoch  string
	floor  int64 // events up to this revision are not here, or not all
	newest int64 // revision up to which the log is complete
	events []discovery.Event
}

// begin starts a new log: no event before leads to this snapshot.
func (l *eventLog) begin(at *discovery.Snapshot) {
	*l = eventLog{epoch: at.Epoch(), floor: at.Revision(), newest: at.Revision()}
}

// add appends the events that led to a snapshot. A new epoch starts a new log.
func (l *eventLog) add(next *discovery.Snapshot, events []discovery.Event) {
	if l.epoch != next.Epoch() {
		l.begin(next)
		return
	}
	l.newest = next.Revision()
	l.events = append(l.events, events...)
	if excess := len(l.events) - logSize; excess > logSize/4 { // now and then, not each time
		l.floor = l.events[excess-1].Revision
		keep := l.after(l.floor)
		l.events = slices.Clone(l.events[keep:])
	}
}

// since returns the events after a revision; see [Catalog.Events].
func (l *eventLog) since(epoch string, after int64) ([]discovery.Event, bool) {
	if epoch != l.epoch || after < l.floor || after > l.newest {
		return nil, false
	}
	return slices.Clip(l.events[l.after(after):]), true
}

// after returns the index of the first event after a revision.
func (l *eventLog) after(revision int64) int {
	return sort.Search(len(l.events), func(n int) bool { return l.events[n].Revision > revision })
}
