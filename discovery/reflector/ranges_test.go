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

// While what is followed grows and shrinks under a busy writer, no event of what is
// followed all along is lost, none is told twice, and the rest is right in the end.
func TestRangesChange(t *testing.T) {
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	put(t, client, "/s/a/0", "first")
	whole, a, b, c := Prefix("/s/"), Prefix("/s/a/"), Prefix("/s/b/"), Prefix("/s/c/")
	m := newRecordingStore()
	f := run(t, client.Endpoints()[0], m, Options{Ranges: []Range{a}, ProgressInterval: func() time.Duration { return 5 * time.Millisecond }})
	until(t, "the first list", func() bool { return f.Health().Synced })
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
	follow := func(r Range) {
		t.Helper()
		_, err := f.Add(t.Context(), r, true)
		try(err)
	}
	for range 12 {
		follow(b)
		follow(whole)
		if rand.IntN(2) == 0 { // else it is narrowed before it has taken over
			try(f.Do(t.Context(), func() {}))
			awaitOneWatch(t, f)
		}
		try(f.Narrow(t.Context(), whole, func() []Range { m.drop(a, c); return []Range{a, c} }))
		try(f.Remove(t.Context(), c, func() { m.drop(a) }))
	}
	follow(whole)
	stop()
	writers.Wait()
	awaitOneWatch(t, f)
	last := put(t, client, "/s/a/last", "")
	until(t, "the last event", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.last.Revision >= last
	})

	var raw []*clientv3.Event
	watching, end := context.WithCancel(t.Context())
	defer end()
	for r := range client.Watch(watching, "/s/a/", clientv3.WithPrefix(), clientv3.WithRev(from+1)) {
		raw = append(raw, r.Events...)
		if raw[len(raw)-1].Kv.ModRevision == last {
			break
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if want, got := describe(raw, "/s/a/", from), describe(m.events, "/s/a/", from); !slices.Equal(want, got) {
		t.Errorf("told %d events of %d", len(got), len(want))
	}
	got, err := client.Get(t.Context(), "/s/", clientv3.WithPrefix())
	try(err)
	truth := map[string]string{}
	for _, kv := range got.Kvs {
		truth[string(kv.Key)] = string(kv.Value)
	}
	if !maps.Equal(m.values, truth) {
		t.Errorf("the mirror holds %v, etcd %v", m.values, truth)
	}
	if h := f.Health(); h.Resyncs > 0 {
		t.Errorf("%d resyncs", h.Resyncs)
	}
}

// awaitOneWatch waits until no range has others to take over.
func awaitOneWatch(t *testing.T, f *Reflector) {
	t.Helper()
	until(t, "one watch alone", func() bool {
		var pending bool
		if err := f.Do(t.Context(), func() {
			pending = slices.ContainsFunc(f.ranges, func(w *watchedRange) bool { return len(w.nested) > 0 })
		}); err != nil {
			t.Fatal(err)
		}
		return !pending
	})
}

// A range without keys is not followed, unless that is wanted.
func TestEmptyRange(t *testing.T) {
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	m := newRecordingStore()
	f := run(t, client.Endpoints()[0], m, Options{})
	for _, empty := range []bool{false, true} {
		n, err := f.Add(t.Context(), Prefix("/s/"), empty)
		if err != nil || n != 0 {
			t.Fatalf("%d keys, %v", n, err)
		}
		if err := f.Do(t.Context(), func() {
			if got := len(f.ranges) == 1; got != empty {
				t.Errorf("followed %v, want %v", got, empty)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	put(t, client, "/s/1", "one")
	until(t, "the key", func() bool { return m.holds()["/s/1"] == "one" })
}

// What is asked for while the follower is between two members of etcd waits for the next.
func TestAddWaitsForTheNextMember(t *testing.T) {
	s := etcdtest.Start(t)
	put(t, etcdtest.Client(t, s.Endpoint()), "/s/a/0", "1")
	links := []*etcdtest.Link{etcdtest.StartLink(t, s.Endpoint()), etcdtest.StartLink(t, s.Endpoint())}
	m := newRecordingStore()
	f := runOn(t, etcdtest.Client(t, links[0].Endpoint(), links[1].Endpoint()), m, Options{})
	until(t, "the first member", func() bool { return f.Health().Synced })
	for _, l := range links {
		l.Freeze() // also those to come
		l.Cut()
	}
	until(t, "the loss of it", func() bool { return f.Health().Err != nil })
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := f.Add(short, Prefix("/s/a/"), true); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while etcd is away: %v", err)
	}
	for _, l := range links {
		l.Mend()
	}
	if keys, err := f.Add(t.Context(), Prefix("/s/a/"), true); keys != 1 || err != nil {
		t.Errorf("%d keys, %v", keys, err)
	}
}
