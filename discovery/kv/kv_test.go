package kv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/devetcd"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

func TestReadsWhatIsWritten(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{})
	if _, fresh, err := f.Get(t.Context(), "app/a", Read{}); !errors.Is(err, discovery.ErrNotFound) || fresh.Revision == 0 {
		t.Errorf("%+v, %v", fresh, err)
	}
	first := f.put("app/a", "1")
	got := f.get("app/a", Read{MinRevision: first})
	if string(got.Value) != "1" || got.Revision != first || got.Created != first || got.Key != "app/a" {
		t.Errorf("%+v", got)
	}
	second := f.put("app/a", "\x00\xff")
	if got := f.get("app/a", Read{Linearizable: true}); string(got.Value) != "\x00\xff" || got.Revision != second || got.Created != first {
		t.Errorf("%+v", got)
	}
	last := f.put("top", "2")
	if got := f.keys("", Read{MinRevision: last}); !slices.Equal(got, []string{"app/a", "top"}) {
		t.Errorf("%v", got)
	}
	gone, err := f.Write(t.Context(), Op{Key: "app/a", Delete: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Get(t.Context(), "app/a", Read{MinRevision: gone}); !errors.Is(err, discovery.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

// A read at a revision that etcd does not have fails, without a long wait.
func TestRevisionThatEtcdHasNot(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{})
	last := f.put("app/a", "1")
	for _, r := range []Read{{MinRevision: last + 9}, {MinRevision: last + 9, Linearizable: true}} {
		if _, _, err := f.Get(t.Context(), "app/a", r); !errors.Is(err, discovery.ErrUnavailable) || !strings.Contains(err.Error(), "lost in a restore") {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

func TestComplete(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{})
	ops := []Op{}
	for n := range MaxOps {
		ops = append(ops, Op{Key: fmt.Sprintf("app/many/%d", n)}, Op{Key: fmt.Sprintf("app/more/%d", n)})
	}
	for _, some := range [][]Op{ops[:MaxOps], ops[MaxOps:], {{Key: "app"}, {Key: "app/a"}, {Key: "app/mz"}, {Key: "app-1"}, {Key: "app0"}, {Key: "b"}}} {
		if _, err := f.Write(t.Context(), some...); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		begin string
		most  int
		want  []string
	}{
		{"", 9, []string{"app", "app-1", "app/", "app0", "b"}},
		{"", 2, []string{"app", "app-1"}},
		{"app/", 9, []string{"app/a", "app/many/", "app/more/", "app/mz"}},
		{"app/m", 9, []string{"app/many/", "app/more/", "app/mz"}},
		{"app/many/6", 9, []string{"app/many/6", "app/many/60", "app/many/61", "app/many/62", "app/many/63"}},
		{"c", 9, nil},
	} {
		t.Run(fmt.Sprintf("%q at most %d", test.begin, test.most), func(t *testing.T) {
			if got, err := f.Complete(t.Context(), test.begin, test.most); err != nil || !slices.Equal(got, test.want) {
				t.Errorf("%v, %v; want %v", got, err, test.want)
			}
		})
	}
}

// A cached range answers without etcd, with its age. A range that was never read does not.
func TestReadsFromMemory(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	link := etcdtest.StartLink(t, s.Endpoint())
	f := start(t, s.Endpoint(), link.Endpoint(), Options{StaleAfter: 500 * time.Millisecond})
	revision := f.put("app/a", "1")
	f.put("other/a", "1")
	f.get("app/a", Read{MinRevision: revision})
	link.Freeze()
	retrytest.Eventually(f.t, "the cache is stale", func() bool {
		i, fresh, err := f.Get(t.Context(), "app/a", Read{})
		if err != nil || string(i.Value) != "1" {
			t.Fatalf("%+v, %v", i, err)
		}
		return fresh.Stale && fresh.Age > 500*time.Millisecond
	})
	if _, _, err := f.Get(t.Context(), "app/a", Read{MaxAge: time.Millisecond}); !errors.Is(err, discovery.ErrUnavailable) {
		t.Errorf("with a limit of age: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, _, err := f.Get(short, "other/a", Read{}); err == nil {
		t.Error("a key that was never read is answered without etcd")
	}
	link.Mend()
	last := f.put("app/a", "2")
	retrytest.Eventually(f.t, "the cache is current", func() bool { return string(f.get("app/a", Read{MinRevision: last}).Value) == "2" })
}

// The cache ages while nothing changes. A read with a lower MaxAge is answered by etcd.
func TestMaxAge(t *testing.T) {
	t.Parallel()
	const most = 50 * time.Millisecond
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{ProgressInterval: func() time.Duration { return time.Hour }})
	revision := f.put("app/a", "1")
	f.get("app/a", Read{MinRevision: revision})
	retrytest.Eventually(f.t, "the cache is old", func() bool {
		_, fresh, err := f.Get(t.Context(), "app/a", Read{})
		return err == nil && fresh.Age > most
	})
	i, fresh, err := f.Get(t.Context(), "app/a", Read{MaxAge: most})
	if err != nil || string(i.Value) != "1" || fresh.Age > most || fresh.Epoch != "" {
		t.Errorf("%+v %+v, %v; want what etcd has", i, fresh, err)
	}
	if _, fresh, err := f.Get(t.Context(), "app/a", Read{MaxAge: time.Hour}); err != nil || fresh.Epoch == "" {
		t.Errorf("%+v, %v; want the cache's answer", fresh, err)
	}
	_, want, err := f.List(t.Context(), "app/", Read{})
	if _, got, err2 := f.List(t.Context(), "app/", Read{MaxAge: most}); err != nil || err2 != nil || got.Index != want.Index || got.Epoch != "" {
		t.Errorf("index %d, %v, of etcd's answer; %d, %v, of the cache's: a waiter would see a change", got.Index, err2, want.Index, err)
	}
	if _, fresh, err := f.Get(t.Context(), "app/b", Read{MaxAge: most}); !errors.Is(err, discovery.ErrNotFound) || fresh.Age > most {
		t.Errorf("%+v, %v", fresh, err)
	}
}

// Nested directories are cached together and apart, in either order, and evicted when they
// are idle.
func TestRangesComeAndGo(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{IdleTimeout: 300 * time.Millisecond})
	f.put("a/b/c", "1")
	f.put("a/d", "1")
	f.put("e", "1")
	f.get("a/b/c", Read{})
	if got := f.keys("a/", Read{}); !slices.Equal(got, []string{"a/b/c", "a/d"}) {
		t.Errorf("%v", got)
	}
	retrytest.Eventually(f.t, "only the read range is cached", func() bool {
		f.get("a/b/c", Read{})
		now := f.state.Load()
		return len(now.ranges) == 1 && now.items.Len() == 1
	})
	last := f.put("a/b/c", "2")
	if got := f.get("a/b/c", Read{MinRevision: last}); string(got.Value) != "2" {
		t.Errorf("%+v: the narrower range is not watched", got)
	}
	waiting := f.Changed()
	retrytest.Eventually(f.t, "all are evicted", func() bool {
		now := f.state.Load()
		return len(now.ranges) == 0 && now.items.Len() == 0 && now.size == 0
	})
	select {
	case <-waiting:
	default:
		t.Error("the eviction does not wake the waiters")
	}
	if got := f.keys("", Read{}); !slices.Equal(got, []string{"a/b/c", "a/d", "e"}) {
		t.Errorf("%v", got)
	}
}

// GetCached returns what Get would return, and counts as a read of the range.
func TestGetCached(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{IdleTimeout: time.Second})
	f.put("app/a", "1")
	if i, _, ok := f.GetCached("app/a"); ok {
		t.Errorf("before anybody asked: %+v", i)
	}
	read, want, err := f.Get(t.Context(), "app/a", Read{})
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	retrytest.Eventually(f.t, "twice the idle timeout", func() bool {
		i, got, ok := f.GetCached("app/a")
		if !ok || i.Key != read.Key || string(i.Value) != "1" || i.Revision != read.Revision || got.Index != want.Index || got.Revision < want.Revision || got.Epoch != want.Epoch {
			t.Fatalf("%+v %+v %v, want %+v %+v", i, got, ok, read, want)
		}
		return time.Since(begun) > 2*time.Second
	})
	if i, _, ok := f.GetCached("app/b"); ok {
		t.Errorf("a key that does not exist: %+v", i)
	}
	last := f.put("app/a", "2")
	f.get("app/a", Read{MinRevision: last})
	if i, fresh, ok := f.GetCached("app/a"); !ok || string(i.Value) != "2" || fresh.Index != last {
		t.Errorf("after a write: %+v %+v %v", i, fresh, ok)
	}
	foreign, err := f.client.Put(t.Context(), f.prefix+"app/d/", "not written by a store")
	if err != nil {
		t.Fatal(err)
	}
	f.get("app/a", Read{MinRevision: foreign.Header.Revision})
	if i, _, ok := f.GetCached("app/d/"); ok {
		t.Errorf("an invalid key: %+v", i)
	}
	retrytest.Eventually(f.t, "it is evicted", func() bool { return len(f.state.Load().ranges) == 0 })
	if i, _, ok := f.GetCached("app/a"); ok {
		t.Errorf("after it was evicted: %+v", i)
	}
}

// A watch starts with a snapshot that its events continue, also while a wider range
// replaces others.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{})
	f.put("app/a", "1")
	f.put("app/b/c", "1")
	for what, want := range map[string][]string{"app/b/c": {"app/b/c"}, "app/b/none": {}, "app/": {"app/a", "app/b/c"}, "": {"app/a", "app/b/c"}} {
		items, fresh, err := f.Snapshot(t.Context(), what)
		if err != nil || fresh.Epoch == "" {
			t.Fatalf("%q: %+v, %v", what, fresh, err)
		}
		got := []string{}
		for i := range items {
			got = append(got, i.Key)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", what, got, want)
		}
		if _, _, ok := f.Events(what, discovery.Cursor{Epoch: fresh.Epoch, Revision: fresh.Revision}); !ok {
			t.Errorf("%q: its events do not follow", what)
		}
	}
	for _, what := range []string{"/", "a//b", "a//"} {
		if _, _, err := f.Snapshot(t.Context(), what); !errors.Is(err, discovery.ErrInvalid) {
			t.Errorf("%q: %v", what, err)
		}
	}
}

// After a gap the cache is compared with etcd; after a wipe it is rebuilt. In neither case a
// reader sees fewer keys than there are.
func TestGaps(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := etcdtest.StartWith(t, devetcd.Options{Dir: dir})
	link := etcdtest.StartLink(t, s.Endpoint())
	f := start(t, s.Endpoint(), link.Endpoint(), Options{})
	f.put("a/1", "1")
	last := f.put("a/2", "1")
	f.get("a/1", Read{MinRevision: last})
	list, fresh, err := f.Snapshot(t.Context(), "a/")
	if err != nil || len(slices.Collect(list)) != 2 {
		t.Fatal(err)
	}
	link.Freeze()
	prefix := discovery.NewKeys("test").KV()
	if _, err := f.etcd.Delete(t.Context(), prefix+"a/1"); err != nil {
		t.Fatal(err)
	}
	put, err := f.etcd.Put(t.Context(), prefix+"a/3", "1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.etcd.Compact(t.Context(), put.Header.Revision); err != nil {
		t.Fatal(err)
	}
	link.Cut()
	link.Mend()
	retrytest.Eventually(f.t, "the difference", func() bool { return slices.Equal(f.keys("a/", Read{}), []string{"a/2", "a/3"}) })
	events, _, ok := f.Events("a/", discovery.Cursor{Epoch: fresh.Epoch, Revision: fresh.Revision})
	if !ok || len(events) != 2 || events[0].Key != "a/1" || events[0].Item != nil || events[1].Key != "a/3" {
		t.Errorf("%v %+v", ok, events)
	}

	s.Close()
	f.keys("a/", Read{})
	retrytest.Eventually(f.t, "the watch is broken", func() bool { return f.reflector.Health().Err != nil })
	f.keys("a/", Read{MinRevision: put.Header.Revision}) // the cache answers while there is no etcd
	another := etcdtest.StartWith(t, devetcd.Options{Listen: s.Endpoint()})
	client := etcdtest.Client(t, another.Endpoint())
	if _, err := client.Txn(t.Context()).Then(clientv3.OpPut(prefix+"a/4", "1")).Commit(); err != nil {
		t.Fatal(err)
	}
	link.Cut()
	retrytest.Eventually(f.t, "what the other etcd has", func() bool { return slices.Equal(f.keys("a/", Read{}), []string{"a/4"}) })
	if _, _, ok := f.Events("a/", discovery.Cursor{Epoch: fresh.Epoch, Revision: fresh.Revision}); ok {
		t.Error("readers of the old etcd go on")
	}
	for _, r := range []Read{{MinRevision: 1000}, {MinRevision: 1000, Linearizable: true}} {
		if _, fresh, err := f.List(t.Context(), "a/", r); !errors.Is(err, discovery.ErrUnavailable) || !strings.Contains(err.Error(), "lost in a restore") {
			t.Errorf("%+v of the old etcd: %+v, %v", r, fresh, err)
		}
	}
}

// Caching one range does not confirm the others, which may lag behind it.
func TestCachingConfirmsNoOtherRange(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{ProgressInterval: func() time.Duration { return time.Hour }})
	f.put("a/x", "1")
	f.put("b/x", "1")
	f.get("a/x", Read{})
	before := f.state.Load().confirmed
	f.get("b/x", Read{})
	if after := f.state.Load().confirmed; before.IsZero() || !after.Equal(before) {
		t.Errorf("confirmed %v later", after.Sub(before))
	}
}
