package kv

import (
	"slices"
	"strings"
	"testing"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// The event log has the events of watched keys, for a while after the last watcher is gone, and
// no others.
func TestHistoryHasWhatIsWatched(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{})
	f.put("app/a", "0")
	f.put("other/a", "0")
	f.get("app/a", Read{})
	f.get("other/a", Read{})
	f.get("app/a", Read{MinRevision: f.put("app/a", "unwatched")})
	release := f.Watch("app/")
	_, fresh, err := f.Snapshot(t.Context(), "app/")
	if err != nil {
		t.Fatal(err)
	}
	from := discovery.Cursor{Epoch: fresh.Epoch, Revision: fresh.Revision}
	revisions := func(what string, after discovery.Cursor) (all []int64, ok bool) {
		events, _, ok := f.Events(what, after)
		for _, e := range events {
			all = append(all, e.Revision)
		}
		return all, ok
	}
	first := f.put("app/a", "1")
	f.put("other/a", "1")
	release()
	second := f.put("app/b", "2") // while the watcher is away
	for _, key := range []string{"app/a", "other/a"} {
		f.get(key, Read{MinRevision: second})
	}
	if got, ok := revisions("app/", from); !ok || !slices.Equal(got, []int64{first, second}) {
		t.Errorf("%v %v, want %d and %d", got, ok, first, second)
	}
	if got, ok := revisions("app/a", from); !ok || !slices.Equal(got, []int64{first}) {
		t.Errorf("of one key: %v %v, want %d", got, ok, first)
	}
	if _, ok := revisions("other/", from); ok {
		t.Error("a watcher of what nobody watched goes on")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.eventLog.events) != 2 {
		t.Errorf("%d events, want 2", len(f.eventLog.events))
	}
	for _, i := range f.eventLog.interests {
		i.watched = i.watched.Add(-unwatchedTTL)
	}
	if f.eventLog.expire(); len(f.eventLog.events) != 0 || f.eventLog.size != 0 || len(f.eventLog.interests) != 0 {
		t.Errorf("%d events of %d bytes after the last watcher has been gone for long", len(f.eventLog.events), f.eventLog.size)
	}
}

// The event log is bounded in bytes. A watcher that falls behind further starts over; others
// go on.
func TestEventLogIsBounded(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{})
	defer f.Watch("app/")()
	defer f.Watch("quiet/")()
	var starts []discovery.Cursor
	for _, what := range []string{"app/", "quiet/"} {
		_, fresh, err := f.Snapshot(t.Context(), what)
		if err != nil {
			t.Fatal(err)
		}
		starts = append(starts, discovery.Cursor{Epoch: fresh.Epoch, Revision: fresh.Revision})
	}
	value := strings.Repeat("x", 256<<10)
	var last int64
	for range 2 * maxLogBytes / len(value) {
		last = f.put("app/a", value)
	}
	retrytest.Eventually(t, "the last write", func() bool { return f.get("app/a", Read{}).Revision == last })
	if _, _, ok := f.Events("app/", starts[0]); ok {
		t.Error("a watcher that fell behind goes on")
	}
	if _, _, ok := f.Events("quiet/", starts[1]); !ok {
		t.Error("a watcher that missed nothing starts over")
	}
	if events, _, ok := f.Events("app/", discovery.Cursor{Epoch: starts[0].Epoch, Revision: last - 1}); !ok || len(events) != 1 {
		t.Errorf("%d events, %v; want the last", len(events), ok)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var size int64
	for _, e := range f.eventLog.events {
		size += e.cost()
	}
	if size > maxLogBytes || size != f.eventLog.size {
		t.Errorf("%d bytes, counted as %d; want at most %d", size, f.eventLog.size, maxLogBytes)
	}
}
