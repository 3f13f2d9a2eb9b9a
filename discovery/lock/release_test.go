package lock_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lock"
	"disc/discovery/lock/locktest"
)

// The release of a lock that had ended says so, each time: its caller may have relied on it
// while another had it.
func TestReleaseOfLost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ttl  time.Duration
		end  func(t *testing.T, a *locktest.Agent, g *lock.Grant)
		want string
	}{
		"its TTL has ended": {100 * time.Millisecond, func(t *testing.T, _ *locktest.Agent, g *lock.Grant) {
			_ = locktest.AwaitLost(t, g)
		}, "not renewed within its TTL"},
		"its key is gone, unnoticed": {0, func(t *testing.T, a *locktest.Agent, g *lock.Grant) {
			if _, err := a.Client.Delete(etcdtest.Context(t), locktest.Keys().Lock("x")+g.ID()); err != nil {
				t.Fatal(err)
			}
		}, "key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := locktest.Start(t, "a", locktest.LongTTL, etcdtest.Start(t).Endpoint())
			g := a.MustLock("x", lock.Request{TTL: c.ttl})
			c.end(t, a, g)
			next := a.MustLock("x", lock.Request{Wait: time.Minute})
			for range 2 {
				done, err := a.Release(etcdtest.Context(t), "x", g.ID())
				if done || !errors.Is(err, discovery.ErrLost) || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("released: %v, %v", done, err)
				}
			}
			a.MustRelease(next)
		})
	}
}

// A lock whose agent stops is released in time without an error: nobody else has had it.
func TestReleaseWhileDraining(t *testing.T) {
	t.Parallel()
	a := locktest.Start(t, "a", locktest.LongTTL, etcdtest.Start(t).Endpoint())
	g := a.MustLock("x", lock.Request{})
	g.ValidFor() // a promise
	closed := make(chan bool, 1)
	go func() { closed <- a.Close(etcdtest.Context(t)) }()
	_ = locktest.AwaitLost(t, g)
	a.MustRelease(g)
	if !<-closed {
		t.Error("not closed cleanly")
	}
}

// gone is the context of a caller that hangs up in the moment of its grant: it has ended, but
// the calls to etcd are not cut off.
type gone struct{ context.Context }

func (gone) Err() error { return context.Canceled }

// A caller that hangs up in the moment of its grant does not hold the lock.
func TestLockCallerGone(t *testing.T) {
	t.Parallel()
	a := locktest.Start(t, "a", locktest.LongTTL, etcdtest.Start(t).Endpoint())
	g, err := a.Lock(gone{context.Background()}, "x", lock.Request{TTL: time.Hour})
	if g != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v", g, err)
	}
	locktest.AwaitKeys(t, a.Client, locktest.Keys().Lock("x"), 0)
	a.MustLock("x", lock.Request{})
}

// A grant that is lost and then released is counted once.
func TestLostOnce(t *testing.T) {
	t.Parallel()
	a := locktest.Start(t, "a", locktest.LongTTL, etcdtest.Start(t).Endpoint())
	g := a.MustLock("x", lock.Request{})
	g.ValidFor() // a promise, which keeps the grant
	if _, err := a.Client.Delete(etcdtest.Context(t), locktest.Keys().Lock("x")+g.ID()); err != nil {
		t.Fatal(err)
	}
	_ = locktest.AwaitLost(t, g)
	if _, err := a.Release(etcdtest.Context(t), "x", g.ID()); !errors.Is(err, discovery.ErrLost) {
		t.Errorf("released: %v", err)
	}
	if n := a.CountLost("lock"); n != 1 {
		t.Errorf("%v locks are counted as lost", n)
	}
}
