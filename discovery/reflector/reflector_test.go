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
)

// The pages of servers that cannot stream are one revision too.
func TestPagesAreOfOneRevision(t *testing.T) {
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	const n = 2*pageSize + 500
	fill(t, client, "/a/", n)
	of := []clientv3.OpOption{clientv3.WithRange("/a0")}
	for name, read := range map[string]func(each func([]*mvccpb.KeyValue)) (Header, error){
		"paged": func(each func([]*mvccpb.KeyValue)) (Header, error) {
			return listPaged(t.Context(), client, "/a/", each, of)
		},
		"streamed": func(each func([]*mvccpb.KeyValue)) (Header, error) {
			return listStreamed(t.Context(), client, "/a/", each, of)
		},
	} {
		size, highest := 0, int64(0)
		at, err := read(func(page []*mvccpb.KeyValue) {
			if size == 0 { // what is written meanwhile is not in the list
				put(t, client, "/a/zz", name)
			}
			size += len(page)
			for _, kv := range page {
				highest = max(highest, kv.ModRevision)
			}
		})
		if err != nil {
			t.Fatal(name, err)
		}
		if _, err := client.Delete(t.Context(), "/a/zz"); err != nil {
			t.Fatal(err)
		}
		if size != n || highest > at.Revision || at.Revision == 0 || at.Cluster == 0 || at.Term == 0 {
			t.Errorf("%s: %d keys up to revision %d at %+v, want %d", name, size, highest, at, n)
		}
	}
}

// Several ranges are followed at once, before and after a gap, and what lies between
// them is not.
func TestRanges(t *testing.T) {
	s := etcdtest.Start(t)
	client, link := etcdtest.Client(t, s.Endpoint()), etcdtest.StartLink(t, s.Endpoint())
	put(t, client, "/a/1", "one")
	put(t, client, "/b/1", "other")
	m := newRecordingStore()
	f := run(t, link.Endpoint(), m, Options{Ranges: []Range{Prefix("/a/"), Prefix("/c/")}, MakeEpoch: true})
	holds := func(want map[string]string) {
		t.Helper()
		until(t, "the mirror to be right", func() bool { return maps.Equal(m.holds(), want) })
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
	if h := f.Health(); h.Err != nil || h.Resyncs == 0 || m.replaced != 2 || m.last.Revision != last {
		t.Errorf("health %+v, %d ranges replaced, at revision %d of %d", h, m.replaced, m.last.Revision, last)
	}
	told := map[int64]string{}
	for _, e := range m.events {
		if before, ok := told[e.Kv.ModRevision]; ok {
			t.Errorf("revision %d told twice: %s and %s", e.Kv.ModRevision, before, e.Kv.Key)
		}
		told[e.Kv.ModRevision] = string(e.Kv.Key)
	}
	called := false
	if err := f.Do(t.Context(), func() { called = true }); err != nil || !called {
		t.Errorf("called %v, %v", called, err)
	}
}

// The mirror is confirmed again and again while nothing happens, even one of nothing.
func TestConfirmed(t *testing.T) {
	s := etcdtest.Start(t)
	m := newRecordingStore()
	f := run(t, s.Endpoint(), m, Options{ProgressInterval: func() time.Duration { return 10 * time.Millisecond }})
	for begun := time.Now(); ; {
		m.mu.Lock()
		confirmed := m.last.Confirmed
		m.mu.Unlock()
		if confirmed.After(begun) {
			break
		}
		until(t, "an update", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.last.Confirmed.After(confirmed)
		})
	}
	if h := f.Health(); h.Err != nil || h.Resyncs > 0 {
		t.Errorf("health %+v", h)
	}
}

func TestStartedOver(t *testing.T) {
	before := clusterIdentity{Header{Cluster: 1, Term: 2, Revision: 30}, "e"}
	for _, test := range []struct {
		now  clusterIdentity
		want string
	}{
		{clusterIdentity{Header{1, 2, 30}, "e"}, ""},
		{clusterIdentity{Header{1, 3, 31}, "e"}, ""},
		{clusterIdentity{Header{1, 2, 30}, "f"}, "the epoch is another"},
		{clusterIdentity{Header{1, 2, 30}, ""}, "the epoch is another"},
		{clusterIdentity{Header{9, 2, 30}, "e"}, "the cluster id is another"},
		{clusterIdentity{Header{1, 2, 29}, "e"}, "the revision went back"},
		{clusterIdentity{Header{1, 1, 31}, "e"}, "the term went back"},
	} {
		if got := test.now.startedOverReason(before); got != test.want {
			t.Errorf("%+v: %q, want %q", test.now, got, test.want)
		}
	}
	earlier := clusterIdentity{Header{Revision: 30}, "e"}
	if why := (clusterIdentity{Header{1, 1, 31}, "e"}).startedOverReason(earlier); why != "" {
		t.Errorf("after a restart: %q", why)
	}
}

// The first answers of a member may be older than the list, for a moment.
func TestLaggingMember(t *testing.T) {
	f := New(nil, newRecordingStore(), Options{})
	f.identity = clusterIdentity{Header: Header{Cluster: 1, Revision: 100}}
	f.freshness = freshness{at: time.Now(), identity: f.identity}
	answer := func(revision int64) error { return f.handle(progress(1, revision)) }
	if err := answer(90); err != nil || !f.confirmed.IsZero() || f.Health().Err == nil {
		t.Fatalf("behind: confirmed %v, %v, health %+v", f.confirmed, err, f.Health())
	}
	if err := answer(100); err != nil || f.confirmed.IsZero() || f.Health().Err != nil {
		t.Fatalf("caught up: confirmed %v, %v, health %+v", f.confirmed, err, f.Health())
	}
	if err := answer(90); err != nil {
		t.Fatal(err)
	}
	f.laggingSince = f.laggingSince.Add(-WatchTimeout - 1)
	if err := answer(90); err == nil || !strings.Contains(err.Error(), "went back") {
		t.Errorf("behind for long: %v", err)
	}
	if err := f.handle(progress(2, 100)); err == nil || !strings.Contains(err.Error(), "another etcd") {
		t.Errorf("another cluster: %v", err)
	}
}

// What comes late confirms nothing: only the moment at which etcd had nothing newer does.
func TestConfirmedByFreshness(t *testing.T) {
	f := New(nil, newRecordingStore(), Options{Ranges: []Range{Prefix("/a/")}})
	f.identity = clusterIdentity{Header: Header{Cluster: 1, Revision: 100}}
	f.watches = map[int64]*watchedRange{epochWatch + 1: f.ranges[0]}
	first := time.Now().Add(-time.Minute)
	f.freshness = freshness{at: first, identity: f.identity}
	put := func(revision int64) {
		t.Helper()
		event := &mvccpb.Event{Kv: &mvccpb.KeyValue{Key: []byte("/a/1"), ModRevision: revision}}
		r := &pb.WatchResponse{WatchId: epochWatch + 1, Header: &pb.ResponseHeader{ClusterId: 1, Revision: revision}, Events: []*mvccpb.Event{event}}
		if err := f.handle([]*pb.WatchResponse{r}); err != nil {
			t.Fatal(err)
		}
	}
	put(101)
	if !f.confirmed.Equal(first) {
		t.Errorf("confirmed %v, want the moment of the proof, %v", f.confirmed, first)
	}
	second := first.Add(time.Second)
	f.freshness = freshness{at: second, identity: clusterIdentity{Header: Header{Cluster: 1, Revision: 105}}}
	put(104)
	if !f.confirmed.Equal(first) {
		t.Errorf("confirmed by an event before the proof")
	}
	if put(105); !f.confirmed.Equal(second) {
		t.Errorf("confirmed %v, want %v", f.confirmed, second)
	}
}

// What waits is taken together.
func TestDrain(t *testing.T) {
	s := &watchStream{responses: make(chan *pb.WatchResponse, 64)}
	for range 64 {
		s.responses <- &pb.WatchResponse{}
	}
	if got := len(s.drain(&pb.WatchResponse{})); got != 64 {
		t.Errorf("%d answers are taken at once, want 64", got)
	}
	if got := len(s.drain(&pb.WatchResponse{})); got != 2 {
		t.Errorf("then %d, want 2", got)
	}
	close(s.responses)
	if got := len(s.drain(&pb.WatchResponse{})); got != 1 {
		t.Errorf("at the end %d, want 1", got)
	}
}

// failingStore fails to take the last of its ranges for the first time.
type failingStore struct {
	*recordingStore
	refused bool
	early   []Update // before it was taken
}

func (m *failingStore) Replace(l *Listing) error {
	if l.From == "/b/" && !m.refused {
		m.refused = true
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

// A mirror is told that it is current, and of changes, only when it has had all ranges.
func TestFirstListFailsMidway(t *testing.T) {
	s := etcdtest.Start(t)
	put(t, etcdtest.Client(t, s.Endpoint()), "/b/1", "one")
	m := &failingStore{recordingStore: newRecordingStore()}
	f := run(t, s.Endpoint(), m, Options{Ranges: []Range{Prefix("/a/"), Prefix("/b/")}})
	if err := f.Do(t.Context(), func() {
		if m.holds()["/b/1"] != "one" || len(m.early) > 0 {
			t.Errorf("has %v, and was told %+v before", m.holds(), m.early)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// observedStore looks on what a mirror is told while one of its ranges is not caught up yet.
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
	until(t, "the first list", func() bool { return m.holds()["/b/1"] == "before" })
	link.Freeze()
	put(t, client, "/a/1", "after")
	put(t, client, "/b/1", "after")
	mu.Lock()
	written = time.Now()
	mu.Unlock()
	link.Cut()
	link.Mend()
	until(t, "both", func() bool { return m.holds()["/a/1"] == "after" && m.holds()["/b/1"] == "after" })
}
