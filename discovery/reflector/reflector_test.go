package reflector

import (
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/life"
	"disc/discovery/retry/retrytest"
)

// All pages of a list are of one revision, also from servers that cannot stream.
func TestPagesAreOfOneRevision(t *testing.T) {
	t.Parallel()
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	const n = 2*pageSize + 500
	fill(t, client, "/a/", n)
	of := []clientv3.OpOption{clientv3.WithRange("/a0")}
	for name, read := range map[string]func(each func([]*mvccpb.KeyValue) error) (life.Header, error){
		"paged": func(each func([]*mvccpb.KeyValue) error) (life.Header, error) {
			return listPaged(t.Context(), client, "/a/", each, of)
		},
		"streamed": func(each func([]*mvccpb.KeyValue) error) (life.Header, error) {
			return listStreamed(t.Context(), client, "/a/", each, of)
		},
	} {
		t.Run(name, func(t *testing.T) {
			size, highest := 0, int64(0)
			at, err := read(func(page []*mvccpb.KeyValue) error {
				if size == 0 { // a key that is written meanwhile is not in the list
					put(t, client, "/a/zz", name)
				}
				size += len(page)
				for _, kv := range page {
					highest = max(highest, kv.ModRevision)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.Delete(t.Context(), "/a/zz"); err != nil {
				t.Fatal(err)
			}
			if size != n || highest > at.Revision || at.Revision == 0 || at.Cluster == 0 || at.Term == 0 {
				t.Errorf("%d keys up to revision %d at %+v, want %d", size, highest, at, n)
			}
		})
	}
}

// Several ranges are watched at once, before and after a gap, and the keys between them are
// not.
func TestRanges(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	client, link := etcdtest.Client(t, s.Endpoint()), etcdtest.StartLink(t, s.Endpoint())
	put(t, client, "/a/1", "one")
	put(t, client, "/b/1", "other")
	m := newRecordingStore()
	r := run(t, link.Endpoint(), m, Options{Ranges: []Range{Prefix("/a/"), Prefix("/c/")},
		Epoch: testKeys.Epoch(), Life: life.New(client, testKeys, life.Options{})})
	holds := func(want map[string]string) {
		t.Helper()
		retrytest.Eventually(t, "the store to be right", func() bool { return maps.Equal(m.holds(), want) })
	}
	holds(map[string]string{"/a/1": "one"})
	put(t, client, "/c/1", "three")
	put(t, client, "/a/2", "two")
	holds(map[string]string{"/a/1": "one", "/a/2": "two", "/c/1": "three"})

	link.Freeze()
	put(t, client, "/a/1", "anew")
	if _, err := client.Delete(t.Context(), "/c/1"); err != nil {
		t.Fatal(err)
	}
	link.Cut()
	link.Mend()
	holds(map[string]string{"/a/1": "anew", "/a/2": "two"})
	last := put(t, client, "/c/2", "four")
	holds(map[string]string{"/a/1": "anew", "/a/2": "two", "/c/2": "four"})
	if h := r.Health(); h.Err != nil || h.Resyncs == 0 || m.replaced != 2 || m.last.Revision != last {
		t.Errorf("health %+v, %d ranges replaced, at revision %d of %d", h, m.replaced, m.last.Revision, last)
	}
	delivered := map[int64]string{}
	for _, e := range m.events {
		if before, ok := delivered[e.Kv.ModRevision]; ok {
			t.Errorf("revision %d delivered twice: %s and %s", e.Kv.ModRevision, before, e.Kv.Key)
		}
		delivered[e.Kv.ModRevision] = string(e.Kv.Key)
	}
	called := false
	if err := r.Do(t.Context(), func() { called = true }); err != nil || !called {
		t.Errorf("called %v, %v", called, err)
	}
}

// The store is confirmed periodically while nothing changes, even without any range.
func TestConfirmed(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	m := newRecordingStore()
	r := run(t, s.Endpoint(), m, Options{ProgressInterval: func() time.Duration { return 10 * time.Millisecond }})
	for begun := time.Now(); ; {
		m.mu.Lock()
		confirmed := m.last.Confirmed
		m.mu.Unlock()
		if confirmed.After(begun) {
			break
		}
		retrytest.Eventually(t, "an update", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.last.Confirmed.After(confirmed)
		})
	}
	if h := r.Health(); h.Err != nil || h.Resyncs > 0 {
		t.Errorf("health %+v", h)
	}
}

// The first responses of a member may be older than the list, for up to WatchTimeout.
func TestLaggingMember(t *testing.T) {
	t.Parallel()
	r := New(nil, newRecordingStore(), Options{})
	r.identity = life.Identity{Header: life.Header{Cluster: 1, Revision: 100}}
	r.lastConfirmation = confirmation{at: time.Now(), identity: r.identity}
	answer := func(revision int64) error { return r.handle(progress(1, revision)) }
	if err := answer(90); err != nil || !r.confirmed.IsZero() || r.Health().Err == nil {
		t.Fatalf("behind: confirmed %v, %v, health %+v", r.confirmed, err, r.Health())
	}
	if err := answer(100); err != nil || r.confirmed.IsZero() || r.Health().Err != nil {
		t.Fatalf("caught up: confirmed %v, %v, health %+v", r.confirmed, err, r.Health())
	}
	if err := answer(90); err != nil {
		t.Fatal(err)
	}
	r.laggingSince = r.laggingSince.Add(-WatchTimeout - 1)
	if err := answer(90); err == nil || !strings.Contains(err.Error(), "went back") {
		t.Errorf("behind for long: %v", err)
	}
	if err := r.handle(progress(2, 100)); err == nil || !strings.Contains(err.Error(), "another etcd") {
		t.Errorf("another cluster: %v", err)
	}
}

// An event that arrives late confirms nothing by itself. The time of a confirmation is the
// time at which etcd had nothing newer.
func TestConfirmedByFreshness(t *testing.T) {
	t.Parallel()
	store := newRecordingStore()
	r := New(nil, store, Options{Ranges: []Range{Prefix("/a/")}})
	r.identity = life.Identity{Header: life.Header{Cluster: 1, Revision: 100}}
	r.watches = map[int64]*watchedRange{epochWatch + 1: r.ranges[0]}
	first := time.Now().Add(-time.Minute)
	r.lastConfirmation = confirmation{at: first, identity: r.identity}
	put := func(revision int64) {
		t.Helper()
		event := &mvccpb.Event{Kv: &mvccpb.KeyValue{Key: []byte("/a/1"), ModRevision: revision}}
		resp := &pb.WatchResponse{WatchId: epochWatch + 1, Header: &pb.ResponseHeader{ClusterId: 1, Revision: revision}, Events: []*mvccpb.Event{event}}
		if err := r.handle([]*pb.WatchResponse{resp}); err != nil {
			t.Fatal(err)
		}
	}
	reached := func(want int64) {
		t.Helper()
		if got := store.last.ConfirmedRevision; got != want {
			t.Errorf("confirmed up to revision %d, want %d", got, want)
		}
	}
	put(101)
	reached(100)
	if !r.confirmed.Equal(first) {
		t.Errorf("confirmed %v, want the time of the linearizable read, %v", r.confirmed, first)
	}
	second := first.Add(time.Second)
	r.lastConfirmation = confirmation{at: second, identity: life.Identity{Header: life.Header{Cluster: 1, Revision: 105}}}
	put(104)
	reached(0)
	if !r.confirmed.Equal(first) {
		t.Error("confirmed by an event before the revision of the linearizable read")
	}
	if put(105); !r.confirmed.Equal(second) {
		t.Errorf("confirmed %v, want %v", r.confirmed, second)
	}
	reached(105)
}

// failingStore fails the first Replace of the range /b/.
type failingStore struct {
	*recordingStore
	failed bool
	early  []Update // that came before that range
}

func (m *failingStore) Replace(l *Listing) error {
	if l.From == "/b/" && !m.failed {
		m.failed = true
		return errors.New("not now")
	}
	return m.recordingStore.Replace(l)
}

func (m *failingStore) Apply(u Update) {
	if len(m.holds()) == 0 {
		m.early = append(m.early, u)
	}
	m.recordingStore.Apply(u)
}

// A store gets changes and confirmations only after all of its ranges were listed.
func TestFirstListFailsMidway(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	put(t, etcdtest.Client(t, s.Endpoint()), "/b/1", "one")
	m := &failingStore{recordingStore: newRecordingStore()}
	r := run(t, s.Endpoint(), m, Options{Ranges: []Range{Prefix("/a/"), Prefix("/b/")}})
	if err := r.Do(t.Context(), func() {
		if m.holds()["/b/1"] != "one" || len(m.early) > 0 {
			t.Errorf("has %v, and had updates %+v before", m.holds(), m.early)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// observedStore calls behind for each update while the range /b/ is not caught up yet.
type observedStore struct {
	*recordingStore
	behind func(Update)
}

func (m observedStore) Apply(u Update) {
	m.recordingStore.Apply(u)
	if m.holds()["/b/1"] == "before" {
		m.behind(u)
	}
}

// After a gap nothing is confirmed before all ranges are caught up.
func TestConfirmedWhenAllIsCaughtUp(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	client, link := etcdtest.Client(t, s.Endpoint()), etcdtest.StartLink(t, s.Endpoint())
	put(t, client, "/a/1", "before")
	put(t, client, "/b/1", "before")
	var written time.Time
	var mu sync.Mutex
	m := observedStore{newRecordingStore(), func(u Update) {
		mu.Lock()
		defer mu.Unlock()
		if !written.IsZero() && u.Confirmed.After(written) {
			t.Errorf("confirmed %v after a write that it lacks: %+v", u.Confirmed.Sub(written), u)
		}
	}}
	run(t, link.Endpoint(), m, Options{Ranges: []Range{Prefix("/a/"), Prefix("/b/")}})
	retrytest.Eventually(t, "the first list", func() bool { return m.holds()["/b/1"] == "before" })
	link.Freeze()
	put(t, client, "/a/1", "after")
	put(t, client, "/b/1", "after")
	mu.Lock()
	written = time.Now()
	mu.Unlock()
	link.Cut()
	link.Mend()
	retrytest.Eventually(t, "both", func() bool { return m.holds()["/a/1"] == "after" && m.holds()["/b/1"] == "after" })
}
