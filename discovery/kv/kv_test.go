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
)

func TestReadsWhatIsWritten(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{})
	if _, view, err := f.Get(t.Context(), "app/a", Read{}); !errors.Is(err, discovery.ErrNotFound) || view.Revision == 0 {
		t.Errorf("%+v, %v", view, err)
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

// A revision that etcd has not is not waited for in vain, nor passed over.
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
		if got, err := f.Complete(t.Context(), test.begin, test.most); err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%q: %v, %v; want %v", test.begin, got, err, test.want)
		}
	}
}

// A copy answers without etcd, and says how old it is; what was never read does not.
func TestReadsFromMemory(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	link := etcdtest.StartLink(t, s.Endpoint())
	f := start(t, s.Endpoint(), link.Endpoint(), Options{StaleAfter: 500 * time.Millisecond})
	revision := f.put("app/a", "1")
	f.put("other/a", "1")
	f.get("app/a", Read{MinRevision: revision})
	link.Freeze()
	f.until("the copy is stale", func() bool {
		i, view, err := f.Get(t.Context(), "app/a", Read{})
		if err != nil || string(i.Value) != "1" {
			t.Fatalf("%+v, %v", i, err)
		}
		return view.Stale && view.Age > 500*time.Millisecond
	})
	if _, _, err := f.Get(t.Context(), "app/a", Read{MaxAge: time.Millisecond}); !errors.Is(err, discovery.ErrUnavailable) {
		t.Errorf("with a limit of age: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, _, err := f.Get(short, "other/a", Read{}); err == nil {
		t.Error("what was never read is answered without etcd")
	}
	link.Mend()
	last := f.put("app/a", "2")
	f.until("the copy is current", func() bool { return string(f.get("app/a", Read{MinRevision: last}).Value) == "2" })
}

// A copy ages while nothing happens. Who wants a younger one is answered by etcd.
func TestMaxAge(t *testing.T) {
	t.Parallel()
	const most = 50 * time.Millisecond
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{ProgressInterval: func() time.Duration { return time.Hour }})
	revision := f.put("app/a", "1")
	f.get("app/a", Read{MinRevision: revision})
	f.until("the copy is old", func() bool {
		_, view, err := f.Get(t.Context(), "app/a", Read{})
		return err == nil && view.Age > most
	})
	i, view, err := f.Get(t.Context(), "app/a", Read{MaxAge: most})
	if err != nil || string(i.Value) != "1" || view.Age > most || view.Epoch != "" {
		t.Errorf("%+v %+v, %v; want what etcd has", i, view, err)
	}
	if _, view, err := f.Get(t.Context(), "app/a", Read{MaxAge: time.Hour}); err != nil || view.Epoch == "" {
		t.Errorf("%+v, %v; want the copy", view, err)
	}
	_, want, err := f.List(t.Context(), "app/", Read{})
	if _, got, err2 := f.List(t.Context(), "app/", Read{MaxAge: most}); err != nil || err2 != nil || got.Index != want.Index || got.Epoch != "" {
		t.Errorf("index %d, %v, of etcd's answer; %d, %v, of the copy: who waits for a change would be told of one", got.Index, err2, want.Index, err)
	}
	if _, view, err := f.Get(t.Context(), "app/b", Read{MaxAge: most}); !errors.Is(err, discovery.ErrNotFound) || view.Age > most {
		t.Errorf("%+v, %v", view, err)
	}
}

// Directories within each other are copied together and apart, whichever comes first,
// and let go when nobody reads them.
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
	f.until("only what is read is copied", func() bool {
		f.get("a/b/c", Read{})
		now := f.state.Load()
		return len(now.ranges) == 1 && now.items.Len() == 1
	})
	last := f.put("a/b/c", "2")
	if got := f.get("a/b/c", Read{MinRevision: last}); string(got.Value) != "2" {
		t.Errorf("%+v: the narrower copy is not watched", got)
	}
	waiting := f.Changed()
	f.until("all are let go", func() bool {
		now := f.state.Load()
		return len(now.ranges) == 0 && now.items.Len() == 0 && now.size == 0
	})
	select {
	case <-waiting:
	default:
		t.Error("who waits for changes of what is let go is not woken")
	}
	if got := f.keys("", Read{}); !slices.Equal(got, []string{"a/b/c", "a/d", "e"}) {
		t.Errorf("%v", got)
	}
}

// What is held is what a Get would read, and stays copied as if it were.
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
	f.until("twice the time of what nobody reads", func() bool {
		i, got, ok := f.GetCached("app/a")
		if !ok || i.Key != read.Key || string(i.Value) != "1" || i.Revision != read.Revision || got.Index != want.Index || got.Revision < want.Revision || got.Epoch != want.Epoch {
			t.Fatalf("%+v %+v %v, want %+v %+v", i, got, ok, read, want)
		}
		return time.Since(begun) > 2*time.Second
	})
	if i, _, ok := f.GetCached("app/b"); ok {
		t.Errorf("what is not there: %+v", i)
	}
	last := f.put("app/a", "2")
	f.get("app/a", Read{MinRevision: last})
	if i, view, ok := f.GetCached("app/a"); !ok || string(i.Value) != "2" || view.Index != last {
		t.Errorf("after a write: %+v %+v %v", i, view, ok)
	}
	foreign, err := f.client.Put(t.Context(), f.prefix+"app/d/", "not written by a store")
	if err != nil {
		t.Fatal(err)
	}
	f.get("app/a", Read{MinRevision: foreign.Header.Revision})
	if i, _, ok := f.GetCached("app/d/"); ok {
		t.Errorf("what is no key: %+v", i)
	}
	f.until("it is let go", func() bool { return len(f.state.Load().ranges) == 0 })
	if i, _, ok := f.GetCached("app/a"); ok {
		t.Errorf("after it was let go: %+v", i)
	}
}

// A watch begins with a copy that its events follow, also while a wider one takes others
// over.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{})
	f.put("app/a", "1")
	f.put("app/b/c", "1")
	for what, want := range map[string][]string{"app/b/c": {"app/b/c"}, "app/b/none": {}, "app/": {"app/a", "app/b/c"}, "": {"app/a", "app/b/c"}} {
		items, view, err := f.Snapshot(t.Context(), what)
		if err != nil || view.Epoch == "" {
			t.Fatalf("%q: %+v, %v", what, view, err)
		}
		got := []string{}
		for i := range items {
			got = append(got, i.Key)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", what, got, want)
		}
		if _, _, ok := f.Events(what, discovery.Cursor{Epoch: view.Epoch, Revision: view.Revision}); !ok {
			t.Errorf("%q: its events do not follow", what)
		}
	}
	for _, what := range []string{"/", "a//b", "a//"} {
		if _, _, err := f.Snapshot(t.Context(), what); !errors.Is(err, discovery.ErrInvalid) {
			t.Errorf("%q: %v", what, err)
		}
	}
}

func TestTooLargeToCache(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{MaxCachedBytes: 2 * itemOverhead})
	f.put("large/a", "1")
	f.put("large/b", "1")
	f.put("small/a", "1")
	if got := f.keys("large/", Read{}); !slices.Equal(got, []string{"large/a", "large/b"}) {
		t.Errorf("%v", got)
	}
	if _, _, err := f.Snapshot(t.Context(), "large/"); !errors.Is(err, discovery.ErrInvalid) || !strings.Contains(err.Error(), "watch a longer prefix") {
		t.Errorf("watched: %v", err)
	}
	f.get("small/a", Read{})
	if now := f.state.Load(); len(now.ranges) != 1 || now.items.Len() != 1 {
		t.Errorf("%d copies of %d items", len(now.ranges), now.items.Len())
	}
}

// After a gap the copy is compared with etcd; after a wipe it is made anew. Neither shows
// a reader less than there is.
func TestGaps(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := etcdtest.StartWith(t, devetcd.Options{Dir: dir})
	link := etcdtest.StartLink(t, s.Endpoint())
	f := start(t, s.Endpoint(), link.Endpoint(), Options{})
	f.put("a/1", "1")
	last := f.put("a/2", "1")
	f.get("a/1", Read{MinRevision: last})
	list, view, err := f.List(t.Context(), "a/", Read{})
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
	f.until("the difference", func() bool { return slices.Equal(f.keys("a/", Read{}), []string{"a/2", "a/3"}) })
	events, _, ok := f.Events("a/", discovery.Cursor{Epoch: view.Epoch, Revision: view.Revision})
	if !ok || len(events) != 2 || events[0].Key != "a/1" || events[0].Item != nil || events[1].Key != "a/3" {
		t.Errorf("%v %+v", ok, events)
	}

	s.Close()
	f.keys("a/", Read{})
	f.until("the watch is broken", func() bool { return f.reflector.Health().Err != nil })
	f.keys("a/", Read{MinRevision: put.Header.Revision}) // as long as there is no etcd that knows better
	another := etcdtest.StartWith(t, devetcd.Options{Listen: s.Endpoint()})
	client := etcdtest.Client(t, another.Endpoint())
	if _, err := client.Txn(t.Context()).Then(clientv3.OpPut(prefix+"a/4", "1")).Commit(); err != nil {
		t.Fatal(err)
	}
	link.Cut()
	f.until("what the other etcd has", func() bool { return slices.Equal(f.keys("a/", Read{}), []string{"a/4"}) })
	if _, _, ok := f.Events("a/", discovery.Cursor{Epoch: view.Epoch, Revision: view.Revision}); ok {
		t.Error("readers of the old etcd go on")
	}
	for _, r := range []Read{{MinRevision: 1000}, {MinRevision: 1000, Linearizable: true}} {
		if _, view, err := f.List(t.Context(), "a/", r); !errors.Is(err, discovery.ErrUnavailable) || !strings.Contains(err.Error(), "lost in a restore") {
			t.Errorf("%+v of the old etcd: %+v, %v", r, view, err)
		}
	}
}

// A copy that is made confirms nothing of the others, which may lag behind it.
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
