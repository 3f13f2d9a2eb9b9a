package catalog

import (
	"slices"
	"sort"

	"disc/discovery"
	"disc/discovery/view"
)

// historySize is the number of events that a reader may be behind before it has to start
// over.
const historySize = 8192

// history has the newest events, for readers that come back with the cursor up to which
// they have read.
type history struct {
	floor  discovery.Cursor // events up to here are dropped, some or all
	newest discovery.Cursor // the history is complete up to here
	events []view.Event     // a ring when it is full
	first  int              // index of the oldest

	// A scope that is watched by itself has events from the start of its watch on.
	whole     bool                        // the whole namespace is watched, from startedAt[""]
	startedAt map[string]discovery.Cursor // by folded name of a service
}

// reset empties the history: no earlier event leads to this snapshot.
func (h *history) reset(at *view.Snapshot) {
	h.floor, h.newest, h.events, h.first = at.Cursor(), at.Cursor(), nil, 0
	for service := range h.startedAt {
		h.startedAt[service] = h.floor
	}
}

// addScope records that a scope is watched from a snapshot on.
func (h *history) addScope(scope discovery.Scope, at *view.Snapshot) {
	if h.startedAt == nil {
		h.startedAt = map[string]discovery.Cursor{}
	}
	h.whole = h.whole || scope == everything
	h.newest = at.Cursor()
	if scope.Node == "" {
		h.startedAt[scope.Service] = h.newest
	}
}

// retainScopes records that only the given scopes are still watched.
func (h *history) retainScopes(scopes []discovery.Scope, at *view.Snapshot) {
	startedAt := map[string]discovery.Cursor{}
	for _, scope := range scopes {
		if scope.Node == "" {
			startedAt[scope.Service] = h.startOf(scope.Service)
		}
	}
	h.whole, h.startedAt, h.newest = false, startedAt, at.Cursor()
}

// startOf returns the cursor at which the watch of a watched service started.
func (h *history) startOf(service string) discovery.Cursor {
	if start, ok := h.startedAt[service]; ok {
		return start
	}
	return h.startedAt[""]
}

// add appends the events that led to a snapshot. A new epoch resets the history.
func (h *history) add(next *view.Snapshot, events []view.Event) {
	if h.newest.Epoch != next.Epoch() {
		h.reset(next)
		return
	}
	h.newest = next.Cursor()
	for _, e := range events {
		if len(h.events) < historySize {
			if len(h.events) == cap(h.events) {
				h.events = slices.Grow(h.events, min(len(h.events)+1, historySize-len(h.events)))
			}
			h.events = append(h.events, e)
			continue
		}
		h.floor = h.at(0).Cursor(h.newest.Epoch)
		h.events[h.first] = e
		h.first = (h.first + 1) % historySize
	}
}

// at returns the nth event; 0 is the oldest.
func (h *history) at(n int) *view.Event { return &h.events[(h.first+n)%len(h.events)] }

// since returns the events after a cursor; see [Catalog.Events].
func (h *history) since(service string, after discovery.Cursor) ([]view.Event, bool) {
	if after.Epoch != h.newest.Epoch || after.Compare(h.floor) < 0 || after.Compare(h.newest) > 0 {
		return nil, false
	}
	if _, apart := h.startedAt[service]; !apart && !h.whole || service == "" && !h.whole || after.Compare(h.startOf(service)) < 0 {
		return nil, false
	}
	from := h.indexAfter(after)
	events := make([]view.Event, len(h.events)-from)
	for n := range events {
		events[n] = *h.at(from + n)
	}
	return events, true
}

// indexAfter returns the index of the first event after a cursor.
func (h *history) indexAfter(cursor discovery.Cursor) int {
	return sort.Search(len(h.events), func(n int) bool { return h.at(n).Cursor(cursor.Epoch).Compare(cursor) > 0 })
}
