package lock_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lease"
	"disc/discovery/lock"
	"disc/discovery/lock/locktest"
	"disc/discovery/retry/retrytest"
)

func TestLockExcludes(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a, b := locktest.Start(t, "a", locktest.LongTTL, etcd.Endpoint()), locktest.Start(t, "b", locktest.LongTTL, etcd.Endpoint())
	first := a.MustLock("x", lock.Request{})
	for _, other := range []*locktest.Agent{a, b} {
		_, err := other.Lock(etcdtest.Context(t), "x", lock.Request{})
		if !errors.Is(err, discovery.ErrConflict) || !strings.Contains(err.Error(), `lock "x" is held by node a`) {
			t.Errorf("got %v", err)
		}
		b.MustFail("x", lock.Request{Wait: 10 * time.Millisecond}, discovery.ErrConflict)
	}
	b.MustLock("x2", lock.Request{}) // a name that begins the same is another
	locktest.AwaitKeys(t, a.Client, locktest.Keys().Lock("x"), 1)
	a.MustRelease(first)
	a.MustRelease(first) // again: nothing
	second := b.MustLock("x", lock.Request{})
	if second.Fence() <= first.Fence() {
		t.Errorf("fence %d after %d", second.Fence(), first.Fence())
	}
	if v := second.ValidFor(); v <= 0 || v > 48*time.Second {
		t.Errorf("valid for %v under a TTL of a minute", v)
	}
}

func TestLockIsFair(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	agents := []*locktest.Agent{locktest.Start(t, "a", locktest.LongTTL, etcd.Endpoint()), locktest.Start(t, "b", locktest.LongTTL, etcd.Endpoint())}
	held := agents[0].MustLock("x", lock.Request{})
	got := make(chan int, 6)
	grants := make(chan *lock.Grant, 6)
	var asking sync.WaitGroup
	for n := range 6 {
		asking.Go(func() {
			g, err := agents[n%2].Lock(etcdtest.Context(t), "x", lock.Request{Wait: time.Minute})
			if err != nil {
				t.Error(err)
				return
			}
			got <- n
			grants <- g
		})
		locktest.AwaitKeys(t, agents[0].Client, locktest.Keys().Lock("x"), n+2)
	}
	agents[0].MustRelease(held)
	for n, fence := 0, held.Fence(); n < 6; n++ {
		if next := <-got; next != n {
			t.Errorf("%d was served in place %d", next, n)
		}
		g := <-grants
		if g.Fence() <= fence {
			t.Errorf("fence %d after %d", g.Fence(), fence)
		}
		fence = g.Fence()
		agents[n%2].MustRelease(g)
	}
	asking.Wait()
}

// A waiter that gives up in the middle of the queue does not get the lock, and does not let
// the waiters behind it pass those ahead of it.
func TestLockWaiterGivesUp(t *testing.T) {
	t.Parallel()
	a := locktest.Start(t, "a", locktest.LongTTL, etcdtest.Start(t).Endpoint())
	held := a.MustLock("x", lock.Request{})
	ctx, hangUp := context.WithCancel(t.Context())
	gaveUp := make(chan error, 1)
	go func() {
		_, err := a.Lock(ctx, "x", lock.Request{Wait: time.Minute})
		gaveUp <- err
	}()
	locktest.AwaitKeys(t, a.Client, locktest.Keys().Lock("x"), 2)
	got := make(chan *lock.Grant, 1)
	go func() {
		g, _ := a.Lock(etcdtest.Context(t), "x", lock.Request{Wait: time.Minute})
		got <- g
	}()
	locktest.AwaitKeys(t, a.Client, locktest.Keys().Lock("x"), 3)
	hangUp()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	locktest.AwaitKeys(t, a.Client, locktest.Keys().Lock("x"), 2)
	a.MustFail("x", lock.Request{}, discovery.ErrConflict) // one round to etcd: time for a wrong step
	select {
	case <-got:
		t.Fatal("two hold the lock")
	default:
	}
	a.MustRelease(held)
	a.MustRelease(<-got)
}

// A caller that goes at the very moment at which etcd has its key has given up: its time is not over.
func TestCallerGoesAsItJoins(t *testing.T) {
	t.Parallel()
	a := locktest.Start(t, "a", locktest.LongTTL, etcdtest.Start(t).Endpoint())
	a.MustLock("x", lock.Request{})
	joined := a.Client.Watch(etcdtest.Context(t), locktest.Keys().Lock("x"), clientv3.WithPrefix(), clientv3.WithFilterDelete(), clientv3.WithCreatedNotify())
	<-joined
	for range 50 {
		ctx, hangUp := context.WithCancel(t.Context())
		go func() {
			<-joined
			hangUp()
		}()
		if _, err := a.Lock(ctx, "x", lock.Request{Wait: time.Minute}); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
	}
}

func TestSharedLock(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a, b := locktest.Start(t, "a", locktest.LongTTL, etcd.Endpoint()), locktest.Start(t, "b", locktest.LongTTL, etcd.Endpoint())
	three := lock.Request{Shared: 3}
	grants := []*lock.Grant{a.MustLock("x", three), b.MustLock("x", three), a.MustLock("x", three)}
	b.MustFail("x", three, discovery.ErrConflict)
	for _, other := range []int{1, 2, 4} {
		b.MustFail("x", lock.Request{Shared: other, Wait: time.Minute}, discovery.ErrConflict) // at once
	}
	got := make(chan *lock.Grant, 2)
	for n := range 2 {
		go func() {
			g, err := b.Lock(etcdtest.Context(t), "x", lock.Request{Shared: 3, Wait: time.Minute})
			if err != nil {
				t.Error(err)
			}
			got <- g
		}()
		locktest.AwaitKeys(t, a.Client, locktest.Keys().Lock("x"), 4+n)
	}
	b.MustRelease(grants[1]) // not the eldest
	next := <-got
	select {
	case <-got:
		t.Fatal("four hold a lock that three may hold")
	default:
	}
	a.MustRelease(grants[2])
	last := <-got
	if last.Fence() <= next.Fence() {
		t.Errorf("fence %d after %d", last.Fence(), next.Fence())
	}
}

func TestLockIsValidated(t *testing.T) {
	t.Parallel()
	a := locktest.Start(t, "a", locktest.LongTTL, etcdtest.Start(t).Endpoint())
	for name, r := range map[string]lock.Request{"": {}, "a/b": {}, "a": {Shared: -1}, "b": {Shared: lock.MaxShared + 1}, "c": {Wait: -1}, "d": {TTL: -1}} {
		t.Run(fmt.Sprintf("%q %+v", name, r), func(t *testing.T) {
			if g, err := a.Lock(etcdtest.Context(t), name, r); !errors.Is(err, discovery.ErrInvalid) {
				t.Errorf("got %v, %v", g, err)
			}
		})
	}
}

// A lock with a TTL lasts while it is renewed, and no longer.
func TestLockTTL(t *testing.T) {
	t.Parallel()
	a := locktest.Start(t, "a", locktest.LongTTL, etcdtest.Start(t).Endpoint())
	g := a.MustLock("x", lock.Request{TTL: 500 * time.Millisecond})
	if v := g.ValidFor(); v > 500*time.Millisecond {
		t.Errorf("valid for %v", v)
	}
	if _, err := a.Renew("y", g.ID()); !errors.Is(err, discovery.ErrNotFound) {
		t.Errorf("renewed under another name: %v", err)
	}
	next := a.MustLock("x", lock.Request{Wait: time.Minute, TTL: time.Hour})
	if err := locktest.AwaitLost(t, g); !strings.Contains(err.Error(), "not renewed within its TTL of 500ms") {
		t.Errorf("lost because %v", err)
	}
	if _, err := a.Renew("x", g.ID()); !errors.Is(err, discovery.ErrLost) || g.ValidFor() != 0 {
		t.Errorf("renewed: %v, valid for %v", err, g.ValidFor())
	}
	if _, err := a.Renew("x", next.ID()); err != nil {
		t.Error(err)
	}
}

// Only the agent that granted a lock can confirm its release.
func TestReleaseElsewhere(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a, b := locktest.Start(t, "a", locktest.LongTTL, etcd.Endpoint()), locktest.Start(t, "b", locktest.LongTTL, etcd.Endpoint())
	g := a.MustLock("x", lock.Request{})
	if done, err := b.Release(etcdtest.Context(t), "x", g.ID()); done || err != nil {
		t.Error("another agent confirms the release")
	}
	if _, err := b.Renew("x", g.ID()); !errors.Is(err, discovery.ErrNotFound) || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("renewed at another agent: %v", err)
	}
	b.MustFail("x", lock.Request{}, discovery.ErrConflict)
	for range 2 {
		a.MustRelease(g)
	}
	b.MustLock("x", lock.Request{})
	if done, err := b.Release(etcdtest.Context(t), "x", "nonsense"); !done || err != nil {
		t.Error("a grant that cannot exist is not released")
	}
}

// A release that etcd has not answered is confirmed when etcd does not have the key any more.
func TestReleaseUnanswered(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	link := etcdtest.StartLink(t, etcd.Endpoint())
	a, observer := locktest.Start(t, "a", locktest.LongTTL, link.Endpoint()), etcdtest.Client(t, etcd.Endpoint())
	g := a.MustLock("x", lock.Request{})
	link.Freeze()
	for range 2 {
		if done, err := a.Release(etcdtest.Context(t), "x", g.ID()); done || err != nil {
			t.Errorf("released without an answer of etcd: %v, %v", done, err)
		}
	}
	link.Mend()
	a.MustRelease(g)
	if r := etcdtest.Must(observer.Get(t.Context(), locktest.Keys().Locks(), clientv3.WithPrefix(), clientv3.WithCountOnly())); r.Count > 0 {
		t.Errorf("etcd has %d keys of a lock whose release was confirmed", r.Count)
	}
}

// When the lease is revoked, all locks under it are lost.
func TestLockSessionLost(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a, b := locktest.Start(t, "a", locktest.LongTTL, etcd.Endpoint()), locktest.Start(t, "b", locktest.LongTTL, etcd.Endpoint())
	g := a.MustLock("x", lock.Request{})
	current, _ := a.Session.Lease()
	if _, err := b.Client.Revoke(etcdtest.Context(t), current.ID); err != nil {
		t.Fatal(err)
	}
	b.MustRelease(b.MustLock("x", lock.Request{}))
	a.Session.Verify(current.ID)
	if err := locktest.AwaitLost(t, g); !strings.Contains(err.Error(), "session with etcd was lost") {
		t.Errorf("lost because %v", err)
	}
	retrytest.Eventually(t, "a new session", func() bool {
		l, _ := a.Session.Lease()
		return l.ID != 0
	})
	a.MustLock("x", lock.Request{})
}

// The holders of an agent that is cut off from etcd lose their locks before anybody else
// gets them, and for good.
func TestLockCutOff(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	link := etcdtest.StartLink(t, etcd.Endpoint())
	a, b := locktest.Start(t, "a", lease.MinTTL, link.Endpoint()), locktest.Start(t, "b", locktest.LongTTL, etcd.Endpoint())
	g := a.MustLock("x", lock.Request{})
	got := make(chan *lock.Grant, 1)
	go func() {
		next, err := b.Lock(etcdtest.Context(t), "x", lock.Request{Wait: time.Minute})
		if err != nil {
			t.Error(err)
		}
		if left := g.ValidFor(); left > 0 {
			t.Errorf("another agent got the lock while its holder had it for another %v", left)
		}
		got <- next
	}()
	locktest.AwaitKeys(t, b.Client, locktest.Keys().Lock("x"), 2)
	link.Freeze()
	locktest.AwaitLost(t, g)
	if _, err := a.Renew("x", g.ID()); !errors.Is(err, discovery.ErrLost) {
		t.Errorf("renewed: %v", err)
	}
	if next := <-got; next.Fence() <= g.Fence() {
		t.Errorf("fence %d after %d", next.Fence(), g.Fence())
	}
	link.Mend()
}

// When the answer to a request for a lock is lost, nobody holds the lock.
func TestLockUnanswered(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	link := etcdtest.StartLink(t, etcd.Endpoint())
	a, b := locktest.Start(t, "a", locktest.LongTTL, link.Endpoint()), locktest.Start(t, "b", locktest.LongTTL, etcd.Endpoint())
	link.HoldAnswers()
	ctx, hangUp := context.WithCancel(t.Context())
	gaveUp := make(chan error, 1)
	go func() {
		_, err := a.Lock(ctx, "x", lock.Request{})
		gaveUp <- err
	}()
	locktest.AwaitKeys(t, b.Client, locktest.Keys().Lock("x"), 1)
	hangUp()
	if err := <-gaveUp; err == nil {
		t.Fatal("got a lock without an answer")
	}
	link.Mend()
	b.MustLock("x", lock.Request{Wait: time.Minute})
	if l, _ := a.Session.Lease(); l.ID == 0 {
		t.Error("the orphan went only with the lease")
	}
}

// A key that appears under the session's lease after its call was given up is removed too.
func TestLateOrphan(t *testing.T) {
	t.Parallel()
	a := locktest.Start(t, "a", locktest.LongTTL, etcdtest.Start(t).Endpoint())
	mine := a.MustLock("mine", lock.Request{})
	current, _ := a.Session.Lease()
	other := locktest.Keys().Instance("web", "web-1")
	for _, key := range []string{locktest.Keys().Lock("x") + "late", other} {
		if _, err := a.Client.Put(etcdtest.Context(t), key, `{"id":"nobody's"}`, clientv3.WithLease(current.ID)); err != nil {
			t.Fatal(err)
		}
	}
	if err := lock.RemoveOrphans(a.Manager, etcdtest.Context(t)); err != nil {
		t.Fatal(err)
	}
	locktest.AwaitKeys(t, a.Client, locktest.Keys().Locks(), 1)
	locktest.AwaitKeys(t, a.Client, other, 1) // not of this package
	if _, err := a.Renew("mine", mine.ID()); err != nil {
		t.Error(err)
	}
}

// A stopping agent marks its locks as lost, and waits until they are released.
func TestClose(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := locktest.Start(t, "a", locktest.LongTTL, etcd.Endpoint())
	g := a.MustLock("x", lock.Request{})
	g.ValidFor()
	waiter := make(chan error, 1)
	go func() {
		_, err := a.Lock(etcdtest.Context(t), "x", lock.Request{Wait: time.Minute})
		waiter <- err
	}()
	locktest.AwaitKeys(t, a.Client, locktest.Keys().Lock("x"), 2)
	closed := make(chan bool, 1)
	go func() { closed <- a.Close(etcdtest.Context(t)) }()
	locktest.AwaitLost(t, g)
	if err := <-waiter; !errors.Is(err, discovery.ErrUnavailable) {
		t.Errorf("the waiter got %v", err)
	}
	locktest.AwaitKeys(t, a.Client, locktest.Keys().Lock("x"), 1) // it was promised for longer
	select {
	case <-closed:
		t.Error("closed before the lock was released")
	default:
	}
	a.MustRelease(g)
	if !<-closed {
		t.Error("not closed cleanly")
	}
	locktest.AwaitKeys(t, a.Client, locktest.Keys().Locks(), 0)
	a.MustFail("y", lock.Request{}, discovery.ErrUnavailable)
}

// A lock that is not released on Close stays for as long as it was promised.
func TestCloseWithoutAnswer(t *testing.T) {
	t.Parallel()
	a := locktest.Start(t, "a", locktest.LongTTL, etcdtest.Start(t).Endpoint())
	g := a.MustLock("x", lock.Request{TTL: 300 * time.Millisecond})
	g.ValidFor()
	if !a.Close(etcdtest.Context(t)) {
		t.Error("not closed cleanly")
	}
	locktest.AwaitKeys(t, a.Client, locktest.Keys().Locks(), 0)
}
