package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lookup"
	"disc/discovery/retry/retrytest"
	"disc/discovery/view"
)

// lazily starts a catalog over a link that the test can break, and waits for its view.
func lazily(t *testing.T, o Options) (*fixture, *etcdtest.Link) {
	t.Helper()
	f, link := linked(t, o)
	retrytest.Eventually(f.t, "a view", func() bool { return f.snapshot() != nil })
	return f, link
}

func named(service string) discovery.Scope { return discovery.Scope{Service: service} }

// lookup ensures that a service is in the view, and looks it up.
func (f *fixture) lookup(service string) (lookup.Answer, error) {
	f.t.Helper()
	if err := f.Ensure(f.ctx(), named(service)); err != nil {
		return lookup.Answer{}, err
	}
	view, err := f.View()
	if err != nil {
		f.t.Fatal(err)
	}
	return lookup.Lookup(view.Snapshot, lookup.Query{Name: service})
}

// watched returns the scopes that are watched by themselves, sorted.
func (f *fixture) watched() []string {
	f.subscriptions.mu.Lock()
	defer f.subscriptions.mu.Unlock()
	var all []string
	for scope, sub := range f.subscriptions.byScope {
		if sub.watched {
			all = append(all, describeScope(scope))
		}
	}
	slices.Sort(all)
	return all
}

// idle drops all scopes that are not retained, as if their idle timeout had passed.
func (f *fixture) idle() {
	f.t.Helper()
	for n := range 2 { // the first round consumes the lookups
		f.dropIdle(f.ctx(), f.reflector.Load(), time.Now().Add(time.Duration(2+2*n)*idleTimeout))
	}
}

// The first lookup of a service that exists starts to watch it. A lookup of another one does
// not.
func TestLazy(t *testing.T) {
	t.Parallel()
	f, _ := lazily(t, Options{Watch: WatchLazy})
	f.register("web", "a")
	f.register("db", "a")
	f.put(keys.Override("web", "a"), `{"weight":7}`)
	if _, err := f.lookup("nobody"); !errors.Is(err, discovery.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
	if got := f.watched(); len(got) > 0 {
		t.Errorf("watched: %v", got)
	}
	got, err := f.lookup("web")
	if err != nil || len(got.Endpoints) != 1 || got.Endpoints[0].Weight != 7 {
		t.Fatalf("web: %+v, %v", got, err)
	}
	if view, _ := f.View(); !view.Partial || view.Snapshot.ServiceCount() != 1 {
		t.Errorf("the view is partial %v, of %d services", view.Partial, view.Snapshot.ServiceCount())
	}
	changed := f.Changed("web")
	f.register("web", "b")
	retrytest.Eventually(f.t, "the second instance", func() bool { got, _ = f.lookup("web"); return len(got.Endpoints) == 2 && isClosed(changed) })
	if got := f.watched(); !slices.Equal(got, []string{`service "web"`}) {
		t.Errorf("watched: %v", got)
	}
	names, err := f.ServiceNames(t.Context())
	if err != nil || !slices.Equal(names, []string{"db", "web"}) {
		t.Errorf("names: %v, %v", names, err)
	}

	f.idle()
	if got := f.watched(); len(got) > 0 || f.snapshot().ServiceCount() > 0 {
		t.Errorf("after the idle timeout, watched: %v", got)
	}
	if got, err = f.lookup("web"); err != nil || len(got.Endpoints) != 2 {
		t.Errorf("then: %+v, %v", got, err)
	}
}

// A service that does not exist counts as missing for a moment, and is found after that.
func TestMissing(t *testing.T) {
	t.Parallel()
	f, _ := lazily(t, Options{Watch: WatchLazy})
	retrytest.Eventually(t, "it is remembered as missing", func() bool { // a slow machine may take longer than that lasts
		if _, err := f.lookup("web"); !errors.Is(err, discovery.ErrNotFound) {
			t.Fatal(err)
		}
		return f.Has(named("web"))
	})
	f.register("web", "a")
	retrytest.Eventually(f.t, "web", func() bool { _, err := f.lookup("web"); return err == nil })
}

// A retained service stays watched, even one that does not exist yet.
func TestRetained(t *testing.T) {
	t.Parallel()
	f, _ := lazily(t, Options{Watch: WatchLazy})
	f.register("web", "a")
	release := f.Retain(named("web"), named("later"))
	both := []string{`service "later"`, `service "web"`}
	retrytest.Eventually(f.t, "both to be watched", func() bool { return slices.Equal(f.watched(), both) })
	f.idle()
	if got := f.watched(); !slices.Equal(got, both) {
		t.Errorf("watched: %v", got)
	}
	changed := f.Changed("later")
	f.register("later", "a")
	retrytest.Eventually(f.t, "it to come", func() bool { return isClosed(changed) })
	if got, err := f.lookup("later"); err != nil || len(got.Endpoints) != 1 {
		t.Errorf("later: %+v, %v", got, err)
	}
	release()
	f.idle()
	if got := f.watched(); len(got) > 0 {
		t.Errorf("watched: %v", got)
	}
}

// Without etcd, services that were read are answered, and others are unavailable.
func TestLazyWithoutEtcd(t *testing.T) {
	t.Parallel()
	store := &memoryStore{}
	f, link := lazily(t, Options{Watch: WatchLazy, LastGood: store, StaleAfter: time.Millisecond})
	f.register("web", "a")
	f.register("db", "a")
	if _, err := f.lookup("web"); err != nil {
		t.Fatal(err)
	}
	link.Freeze()
	link.Cut()
	retrytest.Eventually(f.t, "the loss to be noticed", func() bool { return f.Health().Err != nil })
	if got, err := f.lookup("web"); err != nil || len(got.Endpoints) != 1 {
		t.Errorf("web: %+v, %v", got, err)
	}
	if _, err := f.lookup("db"); !errors.Is(err, discovery.ErrUnavailable) {
		t.Errorf("db: %v", err)
	}
	retained := f.Retain(named("db"))
	defer retained()
	link.Mend()
	retrytest.Eventually(f.t, "db to be watched", func() bool { return slices.Contains(f.watched(), `service "db"`) })
	retrytest.Eventually(f.t, "web to be confirmed", func() bool { return f.Health().Err == nil })
	if got, err := f.lookup("web"); err != nil || len(got.Endpoints) != 1 {
		t.Errorf("web: %+v, %v", got, err)
	}
}

// With WatchListed, no other services are watched, even when they are looked up.
func TestListed(t *testing.T) {
	t.Parallel()
	f, _ := linked(t, Options{Watch: WatchListed, Services: []string{"Web", "later"}, Node: "n1"})
	f.register("web", "a")
	f.register("db", "a")
	retrytest.Eventually(f.t, "web", func() bool {
		_, err := f.View()
		return err == nil && f.snapshot().Has(named("web"))
	})
	if _, err := f.lookup("db"); !errors.Is(err, discovery.ErrNotFound) {
		t.Errorf("db: %v", err)
	}
	if got := f.watched(); !slices.Equal(got, []string{`node "n1"`, `service "later"`, `service "web"`}) {
		t.Errorf("watched: %v", got)
	}
	f.idle()
	f.reached(f.register("later", "a"))
	f.put(keys.Node("n1", "o"), `{"node":"n1","agent":"o"}`)
	retrytest.Eventually(f.t, "the node", func() bool { return f.snapshot().HasAgent("n1", "o") })
}

// WatchAuto watches everything in a small fleet, and single services in a larger one.
func TestAuto(t *testing.T) {
	t.Parallel()
	f, _ := linked(t, Options{Watch: WatchAuto})
	f.register("web", "a")
	f.register("db", "a")
	node := func(n int) string { return keys.Node(fmt.Sprint("n", n), "o") }
	retrytest.Eventually(f.t, "everything", func() bool { return f.isWhole() && f.snapshot().ServiceCount() == 2 })
	if _, err := f.lookup("web"); err != nil {
		t.Fatal(err)
	}
	last := int64(0)
	for n := range manyNodes + 1 {
		last = f.put(node(n), fmt.Sprintf(`{"node":"n%d","agent":"o"}`, n))
	}
	f.reached(last)
	look := func() {
		if err := f.updateFleetSize(f.ctx()); err != nil {
			t.Fatal(err)
		}
		f.dropIdle(f.ctx(), f.reflector.Load(), time.Now())
	}
	look()
	if f.isWhole() || f.snapshot().ServiceCount() != 1 || f.snapshot().NodeCount() > 0 {
		t.Errorf("of %d nodes: everything %v, %d services, %d nodes", manyNodes+1, f.isWhole(), f.snapshot().ServiceCount(), f.snapshot().NodeCount())
	}
	for n := fewNodes; n <= manyNodes; n++ {
		f.remove(node(n))
		if n == fewNodes+10 {
			look()
			if f.isWhole() {
				t.Error("a fleet that is not small yet is watched as a whole")
			}
		}
	}
	f.remove(node(0))
	look()
	f.subscribeRetained(f.ctx())
	if !f.isWhole() || f.snapshot().ServiceCount() != 2 || f.snapshot().NodeCount() != fewNodes-1 {
		t.Errorf("then everything %v, %d services, %d nodes", f.isWhole(), f.snapshot().ServiceCount(), f.snapshot().NodeCount())
	}
}

// found looks a service up, which may be unknown.
func (f *fixture) found(service string) error {
	_, err := f.lookup(service)
	if errors.Is(err, discovery.ErrNotFound) {
		return nil
	}
	return err
}

// While the watched scopes change from a few services to everything and back under a busy
// writer, no event of a retained service is lost or delivered twice, and no answer shrinks.
func TestGaplessSwitches(t *testing.T) {
	t.Parallel()
	f, _ := lazily(t, Options{Watch: WatchLazy})
	const whole = 20
	fill(t, f.etcd, "whole", whole, func(id string) string { return record("whole", id) })
	f.register("web", "a")
	defer f.Retain(named("web"), named("whole"))()
	retrytest.Eventually(f.t, "both", func() bool { return len(f.watched()) == 2 })
	view, _ := f.View()
	from := view.Snapshot

	writing, stop := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	for n := range 3 {
		busy.Go(func() {
			for i := 0; writing.Err() == nil; i++ {
				service := []string{"web", "db", "cache"}[(n+i)%3]
				key, id := keys.Instance(service, fmt.Sprint("x", i%7)), fmt.Sprint("x", i%7)
				var err error
				if i%3 == 0 {
					_, err = f.etcd.Delete(t.Context(), key)
				} else {
					_, err = f.etcd.Put(t.Context(), key, fmt.Sprintf(`{"service":%q,"id":%q,"address":"10.0.0.5","port":%d,"owner":"o"}`, service, id, 1+(i*3+n)%60000))
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	busy.Go(func() {
		for writing.Err() == nil {
			s := f.snapshot()
			if service, ok := s.Service("whole"); !ok || service.Healthy() != whole {
				t.Error("an answer shrank")
				return
			}
		}
	})
	web := newReader(t, f, "web", from)
	for range 15 {
		retrytest.Succeeds(t, func() error { return f.Ensure(f.ctx(), everything) }) // it gives up where etcd is slow
		web.read()
		retrytest.Succeeds(t, func() error { return f.found("db") })
		web.read()
		f.idle()
		if f.isWhole() {
			t.Fatal("everything is still watched")
		}
		retrytest.Succeeds(t, func() error { return f.found("cache") })
		web.read()
		f.idle()
	}
	stop()
	busy.Wait()
	last := f.register("web", "last")
	retrytest.Eventually(f.t, "the last event", func() bool {
		web.read()
		return web.seen[last]
	})
	web.check(last)
	if h := f.Health(); h.Resyncs > 0 {
		t.Errorf("%d comparisons with etcd", h.Resyncs)
	}
}

// reader reads the events of a service as a stream does.
type reader struct {
	t       *testing.T
	f       *fixture
	service string
	from    int64
	at      discovery.Cursor
	seen    map[int64]bool // revisions
}

func newReader(t *testing.T, f *fixture, service string, from *view.Snapshot) *reader {
	s, _ := from.Service(service)
	return &reader{t: t, f: f, service: service, from: s.Revision, at: from.Cursor(), seen: map[int64]bool{}}
}

func (r *reader) read() {
	r.t.Helper()
	events, ok := r.f.Events(r.service, r.at)
	if !ok {
		r.t.Fatalf("no events of %s after %v", r.service, r.at)
	}
	for _, e := range events {
		r.at = e.Cursor(r.at.Epoch)
		if discovery.FoldName(e.Service) != r.service {
			continue
		}
		if r.seen[e.Revision] {
			r.t.Errorf("revision %d is delivered twice", e.Revision)
		}
		r.seen[e.Revision] = true
	}
}

// check compares the events that were read with those of a watch of etcd.
func (r *reader) check(last int64) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	defer cancel()
	want := 0
	for w := range r.f.etcd.Watch(ctx, keys.Service(r.service), clientv3.WithPrefix(), clientv3.WithRev(r.from+1)) {
		for _, e := range w.Events {
			want++
			if !r.seen[e.Kv.ModRevision] {
				r.t.Errorf("revision %d is not delivered: %s %s", e.Kv.ModRevision, e.Type, e.Kv.Key)
			}
			if e.Kv.ModRevision == last {
				if want != len(r.seen) {
					r.t.Errorf("delivered %d events, want %d", len(r.seen), want)
				}
				return
			}
		}
	}
}

// With WatchListed, those that wait for any change do not have the whole namespace watched.
func TestListedRetainsNoMore(t *testing.T) {
	t.Parallel()
	f, _ := lazily(t, Options{Watch: WatchListed, Services: []string{"web"}})
	retrytest.Eventually(t, "the watch of web", func() bool { return len(f.unwatched()) == 0 })
	defer f.Retain(everything)()
	if got := f.unwatched(); len(got) > 0 || f.isWhole() || !f.Has(everything) {
		t.Errorf("to be watched: %v; the view is whole: %v", got, f.isWhole())
	}
}
