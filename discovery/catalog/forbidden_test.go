package catalog

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"disc/discovery"
	"disc/discovery/devetcd"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lookup"
	"disc/discovery/reflector"
	"disc/discovery/retry/retrytest"
	"disc/discovery/view"
)

// restricted is an etcd whose user agent may read some keys only.
type restricted struct {
	t    *testing.T
	root *clientv3.Client
	link *etcdtest.Link
}

// restrict starts an etcd with authentication.
func restrict(t *testing.T) *restricted {
	t.Helper()
	s := etcdtest.StartWith(t, devetcd.Options{Configure: func(c *embed.Config) { c.BcryptCost = 4 }})
	r := &restricted{t: t, root: etcdtest.EnableAuth(t, s.Endpoint()), link: etcdtest.StartLink(t, s.Endpoint())}
	r.permit(keys.Epoch(), "")
	return r
}

// permit lets the agent read a range; to is "" for one key.
func (r *restricted) permit(from, to string) {
	r.t.Helper()
	etcdtest.Permit(r.t, r.root, clientv3.PermissionType(clientv3.PermRead), from, to)
}

func (r *restricted) permitService(name string) {
	r.t.Helper()
	r.permit(keys.ScopeRange(named(name)))
}

func (r *restricted) forbidService(name string) {
	r.t.Helper()
	from, to := keys.ScopeRange(named(name))
	etcdtest.Must(r.root.RoleRevokePermission(r.t.Context(), "agent", from, to))
}

func (r *restricted) start(o Options) *fixture {
	r.t.Helper()
	return startAs(r.t, r.root, etcdtest.User(r.t, r.link.Endpoint(), "agent"), o)
}

// wantForbidden looks up a service until it is unavailable, and says why.
func (f *fixture) wantForbidden(service string) {
	f.t.Helper()
	retrytest.Eventually(f.t, service+" is unavailable, and says why", func() bool {
		_, err := f.lookup(service)
		return errors.Is(err, discovery.ErrUnavailable) && strings.Contains(err.Error(), keys.Service(service))
	})
}

// wantInstances looks up a service until it has n instances, and the view is confirmed.
func (f *fixture) wantInstances(service string, n int) {
	f.t.Helper()
	retrytest.Eventually(f.t, service+" is current", func() bool {
		if _, err := f.View(); err != nil || f.Health().Err != nil || !f.Health().Synced {
			return false
		}
		got, err := f.lookup(service)
		return err == nil && len(got.Endpoints) == n
	})
}

// A service that etcd forbids to read is unavailable, with the reason. The others are confirmed,
// also over a restart of the catalog, and it is watched again once etcd permits it.
func TestForbiddenService(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"listed": {Watch: WatchListed, Services: []string{"web", "db"}},
		"lazy":   {Watch: WatchLazy},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := restrict(t)
			r.permitService("web")
			r.permitService("db")
			o.LastGood = &memoryStore{}
			f := r.start(o)
			f.register("web", "a")
			f.register("db", "a")
			f.wantInstances("web", 1)
			f.wantInstances("db", 1)

			r.forbidService("db")
			r.link.Cut()
			r.link.Mend()
			f.wantForbidden("db")
			f.register("web", "b")
			f.wantInstances("web", 2)
			if err := f.Forbidden(); (err != nil) != (o.Watch == WatchListed) {
				t.Errorf("the status says %v", err)
			}
			if names, err := f.ServiceNames(t.Context()); o.Watch == WatchListed && !slices.Equal(names, []string{"db", "web"}) {
				t.Errorf("the names are %v, %v", names, err)
			}

			r.permitService("db")
			f.wantInstances("db", 1)
			if err := f.Forbidden(); err != nil {
				t.Errorf("once it is permitted, the status says %v", err)
			}
			f.stop()
			r.forbidService("db")
			f = r.start(o)
			f.wantInstances("web", 2)
			f.wantForbidden("db")
		})
	}
}

// An agent that may not read the whole namespace answers what it may read, whatever it watched
// before.
func TestForbiddenNamespace(t *testing.T) {
	t.Parallel()
	r := restrict(t)
	from, to := keys.CatalogRange()
	r.permit(from, to)
	store := &memoryStore{}
	f := r.start(Options{Watch: WatchAuto, LastGood: store})
	f.register("web", "a")
	f.wantInstances("web", 1)
	etcdtest.Must(r.root.RoleRevokePermission(t.Context(), "agent", from, to))
	r.permitService("web")
	r.link.Cut()
	r.link.Mend()
	f.register("web", "b")
	f.wantInstances("web", 2)
	f.wantForbidden("db")
	f.stop()
	f = r.start(Options{Watch: WatchAuto, LastGood: store})
	f.register("web", "c")
	f.wantInstances("web", 3)
	f.stop()
	f = r.start(Options{Watch: WatchAuto})
	f.wantInstances("web", 3)
	f.updateFleetSize(f.ctx())
	if got := f.log.lines("etcd forbids to count the agents"); len(got) != 1 {
		t.Errorf("the log says %d times why single services are watched", len(got))
	}
	f.wantForbidden("db")
	if _, err := lookup.Lookup(f.snapshot(), lookup.Query{Name: "web"}); err != nil {
		t.Error(err)
	}
}

// A scope that etcd refused is not tried again at each call of Retain.
func TestRetainBesideForbidden(t *testing.T) {
	t.Parallel()
	r := restrict(t)
	r.permitService("web")
	f := r.start(Options{Watch: WatchListed, Services: []string{"web", "db"}})
	f.register("web", "a")
	f.wantInstances("web", 1)
	f.wantForbidden("db")
	before, began := f.reads.Load(), time.Now()
	for range 300 {
		f.Retain(named("web"))()
		time.Sleep(time.Millisecond)
	}
	if n, most := f.reads.Load()-before, 3*(2+int64(time.Since(began)/missingTTL)); n > most {
		t.Errorf("%d reads in %v, want at most %d", n, time.Since(began), most)
	}
	r.permitService("db")
	f.register("db", "a")
	f.wantInstances("db", 1)
}

// A forbidden service that is served by the watch of the whole namespace, once that is permitted,
// is not reported any more.
func TestForbiddenThenWhole(t *testing.T) {
	t.Parallel()
	r := restrict(t)
	f := r.start(Options{Watch: WatchAuto, Services: []string{"db"}})
	f.register("db", "a")
	retrytest.Eventually(t, "the status says that db is forbidden", func() bool { return f.Forbidden() != nil })
	f.missing.add(named("db"), f.Forbidden(), time.Now().Add(time.Hour)) // it is not tried by itself
	r.permit(keys.CatalogRange())
	retrytest.Eventually(t, "the watch of the whole namespace", func() bool {
		return f.updateFleetSize(f.ctx()) == nil && f.Ensure(f.ctx(), everything) == nil && f.isWhole()
	})
	f.wantInstances("db", 1)
	if err := f.Forbidden(); err != nil {
		t.Errorf("the status says %v", err)
	}
}

// A scope that a failed first attempt listed, and that etcd forbids in the next, is not in the
// first view.
func TestForbiddenAfterAFailedAttempt(t *testing.T) {
	t.Parallel()
	c := etcdtest.Must(New(nil, keys, Options{Watch: WatchListed, Services: []string{"web", "db"}}))
	c.partialView, _, _ = view.EmptySnapshot().Apply(1, []view.Change{
		{Key: keys.Parse(keys.Instance("web", "a")), Value: []byte(record("web", "a"))},
		{Key: keys.Parse(keys.Instance("db", "a")), Value: []byte(record("db", "a"))},
	})
	if !c.forbid(c.scopeRange(named("web")), nil) {
		t.Fatal("the others do not go on")
	}
	reflectorStore{c}.Apply(reflector.Update{Revision: 2, Confirmed: time.Now()})
	if s := c.snapshot(); s.Has(named("web")) || !s.Has(named("db")) || c.Has(named("web")) {
		t.Error("the view has what is forbidden, or lacks what is not")
	}
}
