package claim

import (
	"context"
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lease"
)

func TestMain(m *testing.M) {
	// An embedded member of a cluster leaves its connections to its peers idle.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("net/http.(*connReader).backgroundRead"),
		goleak.IgnoreAnyFunction("net/http.(*conn).serve"))
}

var keys = discovery.NewKeys("test")

// agent is a session and a holder that run until the test ends.
type agent struct {
	*Manager
	t    *testing.T
	stop func() // ends both, as a crash does
}

// start runs an agent whose session outlasts what a slow machine does to it.
func start(t *testing.T, node string, endpoints ...string) *agent {
	t.Helper()
	return startWith(t, node, time.Minute, endpoints...)
}

func startWith(t *testing.T, node string, ttl time.Duration, endpoints ...string) *agent {
	t.Helper()
	client := etcdtest.Client(t, endpoints...)
	session := etcdtest.Must(lease.New(client, ttl, lease.Options{}))
	a := &agent{Manager: etcdtest.Must(New(client, keys, session, Options{Node: node})), t: t}
	ctx, cancel := context.WithCancel(context.Background())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return session.Run(ctx) })
	group.Go(func() error { return a.Run(ctx) })
	a.stop = func() {
		cancel()
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(a.stop)
	until(t, "a session", func() bool {
		l, _ := session.Lease()
		return l.ID != 0
	})
	return a
}

// lock takes a lock that must be there.
func (a *agent) lock(name string, o LockOptions) *Grant {
	a.t.Helper()
	g, err := a.Lock(patient(a.t), name, o)
	if err != nil {
		a.t.Fatalf("lock %s: %v", name, err)
	}
	return g
}

// refuses asks for a lock that must not be had.
func (a *agent) refuses(name string, o LockOptions, kind error) {
	a.t.Helper()
	if g, err := a.Lock(patient(a.t), name, o); !errors.Is(err, kind) {
		a.t.Fatalf("lock %s: got %v, %v, want %v", name, g, err, kind)
	}
}

func (a *agent) release(g *Grant) {
	a.t.Helper()
	if !a.Release(patient(a.t), g.kind, g.name, g.id) {
		a.t.Fatalf("%s is not released", g.name)
	}
}

// waiting waits until so many keys lie under a prefix.
func waiting(t *testing.T, c *clientv3.Client, prefix string, n int) {
	t.Helper()
	until(t, "keys under "+prefix, func() bool {
		r, err := c.Get(patient(t), prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			t.Fatal(err)
		}
		return int(r.Count) == n
	})
}

// lost waits until a grant is lost, and returns why.
func lost(t *testing.T, g *Grant) error {
	t.Helper()
	select {
	case <-g.Lost():
	case <-patient(t).Done():
		t.Fatalf("%s is not lost", g.name)
	}
	if err := g.Err(); !errors.Is(err, discovery.ErrLost) {
		t.Fatalf("lost because of %v", err)
	}
	return g.Err()
}

func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// until waits for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Minute); !holds(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited a minute for: %s", what)
		}
	}
}
