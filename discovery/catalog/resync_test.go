package catalog

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"disc/discovery"
	"disc/discovery/devetcd"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/reflector"
	"disc/discovery/retry/retrytest"
	"disc/discovery/view"
)

// durableEtcd returns the options of an etcd whose data outlives it. Its writes are not
// synced to disk, since no test crashes the machine.
func durableEtcd(dir, listen string) devetcd.Options {
	return devetcd.Options{Dir: dir, Listen: listen, Configure: func(c *embed.Config) { c.UnsafeNoFsync = true }}
}

// linked runs a catalog over a link that the test can break.
func linked(t *testing.T, o Options) (*fixture, *etcdtest.Link) {
	t.Helper()
	s := etcdtest.Start(t)
	link := etcdtest.StartLink(t, s.Endpoint())
	return start(t, s.Endpoint(), link.Endpoint(), o), link
}

// shut closes an etcd. It cuts the link first, since etcd waits for open streams.
func shut(link *etcdtest.Link, s *devetcd.Server) {
	link.Freeze()
	link.Cut()
	s.Close()
}

// changes returns the number of changes at each comparison with etcd, from the log.
func (f *fixture) changes() []string {
	var all []string
	for _, line := range f.log.lines("in sync") {
		_, after, _ := strings.Cut(line, "changes=")
		count, _, _ := strings.Cut(after, " ")
		all = append(all, count)
	}
	return all
}

// many keys are more than are read one by one.
const many = 501

// After a gap, only the changed keys are read, and they make the events that the watch would
// have made.
func TestGap(t *testing.T) {
	t.Parallel()
	for _, gap := range []struct {
		name    string
		compact bool
		more    int // further keys that change
	}{{"short", false, 0}, {"compacted", true, 0}, {"long", false, many}} {
		t.Run(gap.name, func(t *testing.T) {
			f, link := linked(t, Options{Life: anyLife})
			fill(t, f.etcd, "web", 1200, func(id string) string { return record("web", id) })
			f.put(keys.Instance("web", "junk"), "junk")
			f.register("db", "zz")
			from := f.reached(f.put(keys.Node("n1", "o"), `{"node":"n1","agent":"o"}`))
			retrytest.Eventually(f.t, "one list", func() bool { return len(f.changes()) >= 1 })
			known := len(f.changes())

			link.Freeze()
			f.remove(keys.Instance("web", "i000000"))
			f.register("web", "i000001")
			fill(t, f.etcd, "db", gap.more, func(id string) string { return record("db", id) })
			last := f.register("new", "a")
			if gap.compact {
				if _, err := f.etcd.Compact(f.ctx(), last); err != nil {
					t.Fatal(err)
				}
			}
			db, web := f.Changed("db"), f.Changed("web")
			link.Cut()
			link.Mend()
			view := f.reached(last)
			f.settled()
			if got := f.changes(); len(got) != known+1 || got[known] != fmt.Sprint(3+gap.more) {
				t.Errorf("changes read at each list %v, want %d at the last", got, 3+gap.more)
			}
			if !isClosed(web) || isClosed(db) != (gap.more > 0) {
				t.Errorf("web woken %v, db woken %v", isClosed(web), isClosed(db))
			}
			replayed(t, f, from, view)
		})
	}
}

// replayed checks that the events after a snapshot lead to the next.
func replayed(t *testing.T, f *fixture, from, to *view.Snapshot) {
	t.Helper()
	events, ok := f.Events("", from.Cursor())
	if !ok {
		t.Fatalf("no events after %d", from.Revision())
	}
	shown := map[string]int64{}
	for service := range from.Services() {
		for _, e := range service.Entries() {
			shown[service.Name+"/"+e.ID] = e.Revision
		}
	}
	last := from.Revision()
	for _, e := range events {
		if e.Revision > to.Revision() {
			break
		}
		if e.Revision < last {
			t.Fatalf("event of revision %d after %d", e.Revision, last)
		}
		last = e.Revision
		if name := e.Service + "/" + e.ID; e.Type == view.EventPut {
			shown[name] = e.Entry.Revision
		} else {
			delete(shown, name)
		}
	}
	for service := range to.Services() {
		for _, e := range service.Entries() {
			name := service.Name + "/" + e.ID
			if shown[name] != e.Revision {
				t.Errorf("%s is at revision %d after the events, at %d in the view", name, shown[name], e.Revision)
			}
			delete(shown, name)
		}
	}
	if len(shown) > 0 {
		t.Errorf("the events leave too many instances: %v", shown)
	}
}

// When etcd comes back with its data, only the keys are read again.
func TestRestartedEtcd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := etcdtest.StartWith(t, durableEtcd(dir, ""))
	link := etcdtest.StartLink(t, s.Endpoint())
	f := start(t, s.Endpoint(), link.Endpoint(), Options{Life: anyLife})
	fill(t, f.etcd, "web", 10, func(id string) string { return record("web", id) })
	before := f.settled()
	web := mustService(t, before, "web")
	shut(link, s)
	retrytest.Eventually(f.t, "the loss to be noticed", func() bool { return f.Health().Err != nil })
	if v, err := f.View(); err != nil || v.Snapshot.Epoch() != before.Epoch() || mustService(t, v.Snapshot, "web") != web {
		t.Errorf("without etcd, the view is %v, %v", v, err)
	}
	etcdtest.StartWith(t, durableEtcd(dir, s.Endpoint()))
	link.Mend()
	retrytest.Eventually(f.t, "etcd is back", func() bool { return f.Health().Err == nil && f.Health().Resyncs > 0 })
	if now := f.settled(); now.Epoch() != before.Epoch() || mustService(t, now, "web") != web {
		t.Errorf("epoch %q after %q; web is the same: %v", now.Epoch(), before.Epoch(), mustService(t, now, "web") == web)
	}
}

// When etcd comes back without its data, services stay known and readers start over.
func TestWipedEtcd(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	link := etcdtest.StartLink(t, s.Endpoint())
	f := start(t, s.Endpoint(), link.Endpoint(), Options{Life: anyLife})
	for n := range 20 {
		f.register("web", fmt.Sprint("w", n))
	}
	f.register("db", "a")
	before := f.settled()
	web, unknown := f.Changed("web"), f.Changed("nobody")
	shut(link, s)
	etcdtest.StartWith(t, devetcd.Options{Listen: s.Endpoint()})
	link.Mend()
	f.register("web", "w7")
	retrytest.Eventually(f.t, "the new epoch", func() bool { return f.snapshot().Epoch() != before.Epoch() })
	now := f.settled()
	if db := mustService(t, now, "db"); !db.Empty() || db.Revision > now.Revision() {
		t.Errorf("db has %d instances at revision %d of %d", len(db.Entries()), db.Revision, now.Revision())
	}
	if revision := mustService(t, now, "web").Revision; revision > now.Revision() {
		t.Errorf("web is at revision %d of %d", revision, now.Revision())
	}
	if !isClosed(web) || !isClosed(unknown) {
		t.Error("not all waiters were woken")
	}
	for _, after := range []int64{0, 1, before.Revision()} {
		if _, ok := f.Events("", discovery.Cursor{Epoch: before.Epoch(), Revision: after}); ok {
			t.Errorf("readers of the old epoch go on at %d", after)
		}
	}
	// Also beyond the old epoch's revision.
	for f.snapshot().Revision() <= before.Revision() {
		f.reached(f.register("web", "w8"))
	}
	if _, ok := f.Events("", before.Cursor()); ok {
		t.Error("readers of the old epoch go on once the new revision is higher")
	}
	replayed(t, f, now, f.settled())
}

// When etcd is restored from a backup, it has the old epoch. The later revisions repeat with
// other values, and may be beyond the ones seen when the catalog connects.
func TestRestoredEtcd(t *testing.T) {
	t.Parallel()
	for _, longer := range []bool{false, true} {
		t.Run(fmt.Sprintf("longer %v", longer), func(t *testing.T) {
			dir, backup := t.TempDir(), filepath.Join(t.TempDir(), "backup")
			s := etcdtest.StartWith(t, durableEtcd(dir, ""))
			link := etcdtest.StartLink(t, s.Endpoint())
			f := start(t, s.Endpoint(), link.Endpoint(), Options{Life: anyLife})
			f.register("web", "a")
			f.put(keys.Instance("web", "b"), record("web", "b"))
			old := f.settled()
			shut(link, s)
			if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			s = etcdtest.StartWith(t, durableEtcd(dir, s.Endpoint()))
			link.Mend()
			f.put(keys.Instance("web", "b"), strings.Replace(record("web", "b"), "80", "81", 1))
			f.reached(f.register("gone", "a"))
			before := f.settled()

			shut(link, s)
			etcdtest.StartWith(t, durableEtcd(backup, s.Endpoint()))
			for n := range 5 {
				if longer {
					f.register("web", fmt.Sprint("c", n))
				}
			}
			f.put(keys.Instance("web", "b"), strings.Replace(record("web", "b"), "80", "82", 1))
			link.Mend()
			now := f.settled()
			if another := now.Epoch() != old.Epoch(); another == longer {
				t.Errorf("another epoch %v", another)
			}
			if b, _ := mustService(t, now, "web").Entry("b"); b.Port != 82 {
				t.Errorf("b is at port %d", b.Port)
			}
			if _, ok := f.Events("", before.Cursor()); ok && !longer {
				t.Error("readers of the lost revisions go on")
			}
			f.reached(f.register("web", "after"))
			f.settled()
		})
	}
}

func TestEpochIsMadeOnce(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	var all []*fixture
	for range 5 {
		all = append(all, start(t, s.Endpoint(), s.Endpoint(), Options{Life: anyLife}))
	}
	reader := start(t, s.Endpoint(), s.Endpoint(), Options{})
	for _, f := range append(all, reader) {
		retrytest.Eventually(f.t, "a view", func() bool { return f.snapshot() != nil })
	}
	for _, f := range all {
		if epoch := f.snapshot().Epoch(); epoch == "" || epoch != all[0].snapshot().Epoch() {
			t.Errorf("epochs %q and %q", epoch, all[0].snapshot().Epoch())
		}
	}
	got, err := reader.etcd.Get(t.Context(), keys.Epoch())
	if err != nil || len(got.Kvs) != 1 || got.Kvs[0].Version != 1 {
		t.Errorf("the epoch's key is %v, %v", got.Kvs, err)
	}
}

// A catalog that may not write makes no epoch. It accepts the first epoch that appears as
// that of the etcd it knows.
func TestEpochThatComesLater(t *testing.T) {
	t.Parallel()
	f, link := linked(t, Options{})
	f.register("web", "a")
	f.settled()
	if got, err := f.etcd.Get(t.Context(), keys.Epoch()); err != nil || len(got.Kvs) > 0 {
		t.Fatalf("%v, %v", got, err)
	}
	f.put(keys.Epoch(), "first")
	link.Cut()
	retrytest.Eventually(f.t, "the epoch", func() bool { return f.snapshot().Epoch() == "first" })
	if lines := f.log.lines("started over"); len(lines) > 0 {
		t.Error(lines)
	}
}

// The view ages while nothing comes from etcd, and is fresh again after that.
func TestFrozenEtcd(t *testing.T) {
	t.Parallel()
	const staleAfter = 3 * time.Second
	f, link := linked(t, Options{StaleAfter: staleAfter})
	f.register("web", "a")
	f.settled()
	before, _ := f.View()
	looked := time.Now()
	link.Freeze()
	var stale view.View
	retrytest.Eventually(f.t, "a stale view", func() bool {
		var err error
		if stale, err = f.View(); err != nil || stale.Snapshot.ServiceCount() != 1 {
			t.Fatalf("view %v, %v", stale, err)
		}
		return stale.Stale
	})
	if most := before.Age + time.Since(looked) + time.Millisecond; stale.Age <= staleAfter || stale.Age > most {
		t.Errorf("age %v, want above %v and at most %v", stale.Age, staleAfter, most)
	}
	retrytest.Eventually(f.t, "the watch to be abandoned", func() bool { return f.Health().Err != nil })
	last := f.register("web", "b")
	link.Mend()
	f.reached(last)
	retrytest.Eventually(f.t, "a fresh view", func() bool {
		v, _ := f.View()
		return !v.Stale && v.Age <= staleAfter
	})
	retrytest.Eventually(f.t, "good health", func() bool { return f.Health().Err == nil })
}

// Without changes the view is confirmed periodically, and no waiter is woken.
func TestQuietEtcd(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	fill(t, etcdtest.Client(t, s.Endpoint()), "web", 1, func(id string) string { return record("web", id) })
	f := start(t, s.Endpoint(), s.Endpoint(), Options{})
	retrytest.Eventually(f.t, "a view", func() bool { return f.snapshot() != nil })
	all := f.Changed("")
	for start := time.Now(); f.state.Load().confirmed.Before(start.Add(reflector.DefaultProgressInterval + 1)); {
		confirmed := f.state.Load().confirmed
		retrytest.Eventually(f.t, "a confirmation", func() bool { return f.state.Load().confirmed.After(confirmed) })
	}
	if h := f.Health(); h.Resyncs != 0 || h.Err != nil || isClosed(all) {
		t.Errorf("health %+v, woken %v", h, isClosed(all))
	}
}

// When one of two members hangs, the catalog uses the other.
func TestHungMember(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	good, hung := etcdtest.StartLink(t, s.Endpoint()), etcdtest.StartLink(t, s.Endpoint())
	hung.Freeze()
	f := &fixture{t: t, etcd: etcdtest.Client(t, s.Endpoint()), log: &logBuffer{}}
	f.Catalog = etcdtest.Must(New(etcdtest.Client(t, hung.Endpoint(), good.Endpoint()), keys, Options{}))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	defer func() { cancel(); <-done }()
	f.reached(f.register("web", "a"))
}
