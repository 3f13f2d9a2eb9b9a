// Package locktest runs agents that hold locks, for the tests of package lock and of the
// packages that are built on it.
package locktest

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lease"
	"disc/discovery/life"
	"disc/discovery/lock"
	"disc/discovery/retry/retrytest"
)

// Keys returns the keys of all agents.
func Keys() discovery.Keys { return discovery.NewKeys("test") }

// LongTTL is a session's TTL that no delay of a slow machine outlasts.
const LongTTL = time.Minute

// Agent is a session and a manager of locks that run until the test ends.
type Agent struct {
	*lock.Manager
	Client  *clientv3.Client
	Session *lease.Session
	metrics *prometheus.Registry
	t       testing.TB
}

// Start runs an agent whose session has a TTL, and returns it once the session has opened its stream
// of renewals. A key that is gone before may be that of an etcd that was restored from a backup.
func Start(t testing.TB, node string, ttl time.Duration, endpoints ...string) *Agent {
	t.Helper()
	return StartWith(t, ttl, lock.Options{Node: node}, endpoints...)
}

// StartWith is Start with options. It sets the registerer.
func StartWith(t testing.TB, ttl time.Duration, o lock.Options, endpoints ...string) *Agent {
	t.Helper()
	a := startEarly(t, ttl, o, endpoints...)
	retrytest.Eventually(t, "a stream of renewals", func() bool {
		contact, _ := a.Session.Contact()
		return contact > 0 && a.Life().Proven() == contact
	})
	return a
}

// StartEarly is Start without the wait for the stream.
func StartEarly(t testing.TB, node string, ttl time.Duration, endpoints ...string) *Agent {
	t.Helper()
	return startEarly(t, ttl, lock.Options{Node: node}, endpoints...)
}

func startEarly(t testing.TB, ttl time.Duration, o lock.Options, endpoints ...string) *Agent {
	t.Helper()
	client := etcdtest.Client(t, endpoints...)
	session := etcdtest.Must(lease.New(client, ttl, lease.Options{}))
	metrics := prometheus.NewRegistry()
	present := life.New(client, Keys(), life.Options{Session: session, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		First: []clientv3.Op{clientv3.OpPut(Keys().Level(), string(discovery.LevelRecord{Level: discovery.OwnLevel}.Encode()))}})
	o.Registerer = metrics
	manager := etcdtest.Must(lock.New(client, Keys(), session, present, o))
	Run(t, session.Run, present.Run, manager.Run)
	retrytest.Eventually(t, "a session", func() bool {
		l, _ := session.Lease()
		return l.ID != 0
	})
	return &Agent{manager, client, session, metrics, t}
}

// Run runs functions until stop is called or the test ends.
func Run(t testing.TB, run ...func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	group, ctx := errgroup.WithContext(ctx)
	for _, f := range run {
		group.Go(func() error { return f(ctx) })
	}
	stop = func() {
		cancel()
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// MustLock acquires a lock, which must succeed. It asks again if a slow machine has not let etcd
// confirm the session in time, so that the lock was lost in the moment of the grant.
func (a *Agent) MustLock(name string, r lock.Request) *lock.Grant {
	a.t.Helper()
	var g *lock.Grant
	retrytest.Succeeds(a.t, func() (err error) {
		if g, err = a.Lock(etcdtest.Context(a.t), name, r); err != nil && !errors.Is(err, discovery.ErrLost) {
			a.t.Fatalf("lock %s: %v", name, err)
		}
		return err
	})
	return g
}

// MustFail requests a lock, which must fail with an error of a kind.
func (a *Agent) MustFail(name string, r lock.Request, kind error) {
	a.t.Helper()
	if g, err := a.Lock(etcdtest.Context(a.t), name, r); !errors.Is(err, kind) {
		a.t.Fatalf("lock %s: got %v, %v, want %v", name, g, err, kind)
	}
}

// MustRelease releases a lock, which etcd must confirm.
func (a *Agent) MustRelease(g *lock.Grant) {
	a.t.Helper()
	AwaitReleased(a.t, func() (bool, error) { return a.Release(etcdtest.Context(a.t), g.Name(), g.ID()) })
}

// AwaitReleased releases a grant again and again until etcd confirms it, which a slow machine may not let it do in time.
func AwaitReleased(t testing.TB, release func() (done bool, err error)) {
	t.Helper()
	retrytest.Eventually(t, "etcd confirms a release", func() bool {
		done, err := release()
		if err != nil {
			t.Fatalf("not released: %v", err)
		}
		return done
	})
}

// Transactions returns the number of transactions that the agent has sent for grants of a
// kind.
func (a *Agent) Transactions(kind string) float64 {
	a.t.Helper()
	return a.counter("disc_grants_transactions_total", kind)
}

// CountLost returns the number of grants of a kind that the agent has counted as lost.
func (a *Agent) CountLost(kind string) float64 {
	a.t.Helper()
	return a.counter("disc_grants_lost_total", kind)
}

// counter returns the value of one of the manager's counters for a kind of grants.
func (a *Agent) counter(name, kind string) float64 {
	a.t.Helper()
	families, err := a.metrics.Gather()
	if err != nil {
		a.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && m.GetLabel()[0].GetValue() == kind {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// AwaitKeys waits until etcd has n keys under a prefix.
func AwaitKeys(t testing.TB, c *clientv3.Client, prefix string, n int) {
	t.Helper()
	retrytest.Eventually(t, "keys under "+prefix, func() bool {
		r, err := c.Get(etcdtest.Context(t), prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			t.Fatal(err)
		}
		return int(r.Count) == n
	})
}

// AwaitLost waits until a grant is lost, and returns why.
func AwaitLost(t testing.TB, g *lock.Grant) error {
	t.Helper()
	select {
	case <-g.Lost():
	case <-etcdtest.Context(t).Done():
		t.Fatalf("%s is not lost", g.Name())
	}
	if err := g.Err(); !errors.Is(err, discovery.ErrLost) {
		t.Fatalf("lost because of %v", err)
	}
	return g.Err()
}
