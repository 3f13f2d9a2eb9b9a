package reflector

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// write changes keys of four prefixes at random until ctx ends, some of several
// prefixes at once.
func write(t *testing.T, ctx context.Context, client *clientv3.Client) {
	for n := 0; ctx.Err() == nil; n++ {
		var ops []clientv3.Op
		for _, prefix := range rand.Perm(4)[:1+rand.IntN(3)] {
			key := fmt.Sprintf("/s/%c/%d", 'a'+prefix, rand.IntN(5))
			if rand.IntN(3) == 0 {
				ops = append(ops, clientv3.OpDelete(key))
			} else {
				ops = append(ops, clientv3.OpPut(key, fmt.Sprint(n)))
			}
		}
		if _, err := client.Txn(t.Context()).Then(ops...).Commit(); err != nil {
			t.Error(err)
			return
		}
	}
}

func describe(events []*clientv3.Event, prefix string, from int64) []string {
	var all []string
	for _, e := range events {
		if strings.HasPrefix(string(e.Kv.Key), prefix) && e.Kv.ModRevision > from {
			all = append(all, fmt.Sprintf("%d %s %s %s", e.Kv.ModRevision, e.Type, e.Kv.Key, e.Kv.Value))
		}
	}
	return all
}

// While the watched ranges grow and shrink under a busy writer, no event of a range that
// is watched all along is lost or delivered twice, and the other ranges are right at the end.
func TestRangesChange(t *testing.T) {
	t.Parallel()
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	put(t, client, "/s/a/0", "first")
	whole, a, b, c := Prefix("/s/"), Prefix("/s/a/"), Prefix("/s/b/"), Prefix("/s/c/")
	m := newRecordingStore()
	r := run(t, client.Endpoints()[0], m, Options{Ranges: []Range{a}, ProgressInterval: func() time.Duration { return 5 * time.Millisecond }})
	retrytest.Eventually(t, "the first list", func() bool { return r.Health().Synced })
	m.mu.Lock()
	from := m.last.Revision
	m.mu.Unlock()

	writing, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for range 2 {
		writers.Go(func() { write(t, writing, client) })
	}
	try := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	add := func(rng Range) {
		t.Helper()
		_, err := r.Add(t.Context(), rng, true)
		try(err)
	}
	for range 12 {
		add(b)
		add(whole)
		if rand.IntN(2) == 0 { // else it is narrowed before it has replaced the others
			try(r.Do(t.Context(), func() {}))
			awaitOneWatch(t, r)
		}
		try(r.Narrow(t.Context(), whole, func() []Range { m.drop(a, c); return []Range{a, c} }))
		try(r.Remove(t.Context(), c, func() { m.drop(a) }))
	}
	add(whole)
	stop()
	writers.Wait()
	awaitOneWatch(t, r)
	last := put(t, client, "/s/a/last", "")
	retrytest.Eventually(t, "the last event", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.last.Revision >= last
	})

	var raw []*clientv3.Event
	watching, end := context.WithCancel(t.Context())
	defer end()
	for resp := range client.Watch(watching, "/s/a/", clientv3.WithPrefix(), clientv3.WithRev(from+1)) {
		raw = append(raw, resp.Events...)
		if raw[len(raw)-1].Kv.ModRevision == last {
			break
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if want, got := describe(raw, "/s/a/", from), describe(m.events, "/s/a/", from); !slices.Equal(want, got) {
		t.Errorf("delivered %d events, want %d", len(got), len(want))
	}
	got, err := client.Get(t.Context(), "/s/", clientv3.WithPrefix())
	try(err)
	truth := map[string]string{}
	for _, kv := range got.Kvs {
		truth[string(kv.Key)] = string(kv.Value)
	}
	if !maps.Equal(m.values, truth) {
		t.Errorf("the store holds %v, etcd %v", m.values, truth)
	}
	if h := r.Health(); h.Resyncs > 0 {
		t.Errorf("%d resyncs", h.Resyncs)
	}
}

// awaitOneWatch waits until no range has nested ones to replace.
func awaitOneWatch(t *testing.T, r *Reflector) {
	t.Helper()
	retrytest.Eventually(t, "one watch alone", func() bool {
		var pending bool
		if err := r.Do(t.Context(), func() {
			pending = slices.ContainsFunc(r.ranges, func(w *watchedRange) bool { return len(w.nested) > 0 })
		}); err != nil {
			t.Fatal(err)
		}
		return !pending
	})
}

// Updates say whether events of another range may come later, until one watch has taken over.
func TestApart(t *testing.T) {
	t.Parallel()
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	m := newRecordingStore()
	r := run(t, client.Endpoints()[0], m, Options{Ranges: []Range{Prefix("/s/a/"), Prefix("/s/b/")}})
	retrytest.Eventually(t, "the first list", func() bool { return r.Health().Synced })
	written := func(key string) (apart bool) {
		t.Helper()
		put(t, client, key, "one")
		retrytest.Eventually(t, key, func() bool { return m.holds()[key] == "one" })
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.last.Apart
	}
	if !written("/s/a/1") {
		t.Error("two ranges are not apart")
	}
	if _, err := r.Add(t.Context(), Prefix("/s/"), true); err != nil {
		t.Fatal(err)
	}
	awaitOneWatch(t, r)
	if written("/s/c/1") {
		t.Error("one range is apart")
	}
}

// A range without keys is watched only if empty is set.
func TestEmptyRange(t *testing.T) {
	t.Parallel()
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	m := newRecordingStore()
	r := run(t, client.Endpoints()[0], m, Options{})
	for _, empty := range []bool{false, true} {
		n, err := r.Add(t.Context(), Prefix("/s/"), empty)
		if err != nil || n != 0 {
			t.Fatalf("%d keys, %v", n, err)
		}
		if err := r.Do(t.Context(), func() {
			if got := len(r.ranges) == 1; got != empty {
				t.Errorf("watched %v, want %v", got, empty)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	put(t, client, "/s/1", "one")
	retrytest.Eventually(t, "the key", func() bool { return m.holds()["/s/1"] == "one" })
}

// Add, called while the reflector is between two members of etcd, waits for the next.
func TestAddWaitsForTheNextMember(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	put(t, etcdtest.Client(t, s.Endpoint()), "/s/a/0", "1")
	links := []*etcdtest.Link{etcdtest.StartLink(t, s.Endpoint()), etcdtest.StartLink(t, s.Endpoint())}
	m := newRecordingStore()
	r := runOn(t, etcdtest.Client(t, links[0].Endpoint(), links[1].Endpoint()), m, Options{})
	retrytest.Eventually(t, "the first member", func() bool { return r.Health().Synced })
	for _, l := range links {
		l.Freeze() // new connections too
		l.Cut()
	}
	retrytest.Eventually(t, "the loss of it", func() bool { return r.Health().Err != nil })
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.Add(short, Prefix("/s/a/"), true); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while etcd is away: %v", err)
	}
	for _, l := range links {
		l.Mend()
	}
	if keys, err := r.Add(t.Context(), Prefix("/s/a/"), true); keys != 1 || err != nil {
		t.Errorf("%d keys, %v", keys, err)
	}
}

// A range that is dropped while a wider one is about to replace its watch is delivered by the
// wider one without a gap.
func TestNarrowWhileReplaced(t *testing.T) {
	t.Parallel()
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	put(t, client, "/s/a/1", "0")
	inner, whole := Prefix("/s/a/"), Prefix("/s/")
	m := newRecordingStore()
	r := run(t, client.Endpoints()[0], m, Options{Ranges: []Range{inner}})
	retrytest.Eventually(t, "the first list", func() bool { return r.Health().Synced })
	if _, err := r.Add(t.Context(), whole, true); err != nil {
		t.Fatal(err)
	}
	called := false
	if err := r.Narrow(t.Context(), inner, func() []Range { called = true; return nil }); err != nil || !called {
		t.Fatalf("called %v, %v", called, err)
	}
	for n := range 100 {
		put(t, client, "/s/a/1", fmt.Sprint(n+1))
	}
	awaitOneWatch(t, r)
	put(t, client, "/s/b/1", "last")
	retrytest.Eventually(t, "the last event", func() bool { return m.holds()["/s/b/1"] == "last" })
	if got := m.holds()["/s/a/1"]; got != "100" {
		t.Errorf("the value is %s, want 100", got)
	}
}

// A watch that still delivers the keys of a range stays while a wider one that is to replace it
// takes the place of a yet wider one.
func TestNarrowKeepsPendingWatches(t *testing.T) {
	t.Parallel()
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	put(t, client, "/s/a/b/1", "0")
	inner, middle, whole := Prefix("/s/a/b/"), Prefix("/s/a/"), Prefix("/s/")
	m := newRecordingStore()
	r := run(t, client.Endpoints()[0], m, Options{Ranges: []Range{inner}})
	retrytest.Eventually(t, "the first list", func() bool { return r.Health().Synced })
	for _, wider := range []Range{middle, whole} {
		if _, err := r.Add(t.Context(), wider, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Narrow(t.Context(), whole, func() []Range { return []Range{middle} }); err != nil {
		t.Fatal(err)
	}
	for n := range 100 {
		put(t, client, "/s/a/b/1", fmt.Sprint(n+1))
	}
	retrytest.Eventually(t, "the last event", func() bool { return m.holds()["/s/a/b/1"] == "100" })
	awaitOneWatch(t, r)
	put(t, client, "/s/a/b/1", "last")
	retrytest.Eventually(t, "an event after the watches were joined", func() bool { return m.holds()["/s/a/b/1"] == "last" })
}
