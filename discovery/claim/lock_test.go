package claim

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lease"
)

func TestLockExcludes(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a, b := start(t, "a", etcd.Endpoint()), start(t, "b", etcd.Endpoint())
	first := a.lock("x", LockOptions{})
	for _, other := range []*agent{a, b} {
		_, err := other.Lock(patient(t), "x", LockOptions{})
		if !errors.Is(err, discovery.ErrConflict) || !strings.Contains(err.Error(), `lock "x" is held by node a`) {
			t.Errorf("got %v", err)
		}
		b.refuses("x", LockOptions{Wait: 10 * time.Millisecond}, discovery.ErrConflict)
	}
	b.lock("x2", LockOptions{}) // a name that begins the same is another
	waiting(t, a.client, keys.Lock("x"), 1)
	a.release(first)
	a.release(first) // again: nothing
	second := b.lock("x", LockOptions{})
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
	agents := []*agent{start(t, "a", etcd.Endpoint()), start(t, "b", etcd.Endpoint())}
	held := agents[0].lock("x", LockOptions{})
	got := make(chan int, 6)
	grants := make(chan *Grant, 6)
	var asking sync.WaitGroup
	for n := range 6 {
		asking.Go(func() {
			g, err := agents[n%2].Lock(patient(t), "x", LockOptions{Wait: time.Minute})
			if err != nil {
				t.Error(err)
				return
			}
			got <- n
			grants <- g
		})
		waiting(t, agents[0].client, keys.Lock("x"), n+2)
	}
	agents[0].release(held)
	for n, fence := 0, held.Fence(); n < 6; n++ {
		if next := <-got; next != n {
			t.Errorf("%d was served in place %d", next, n)
		}
		g := <-grants
		if g.Fence() <= fence {
			t.Errorf("fence %d after %d", g.Fence(), fence)
		}
		fence = g.Fence()
		agents[n%2].release(g)
	}
	asking.Wait()
}

// Who gives up in the middle of the queue neither gets the lock nor lets those behind
// pass the one before it.
func TestLockWaiterGivesUp(t *testing.T) {
	t.Parallel()
	a := start(t, "a", etcdtest.Start(t).Endpoint())
	held := a.lock("x", LockOptions{})
	ctx, hangUp := context.WithCancel(t.Context())
	gaveUp := make(chan error, 1)
	go func() {
		_, err := a.Lock(ctx, "x", LockOptions{Wait: time.Minute})
		gaveUp <- err
	}()
	waiting(t, a.client, keys.Lock("x"), 2)
	got := make(chan *Grant, 1)
	go func() {
		g, _ := a.Lock(patient(t), "x", LockOptions{Wait: time.Minute})
		got <- g
	}()
	waiting(t, a.client, keys.Lock("x"), 3)
	hangUp()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	waiting(t, a.client, keys.Lock("x"), 2)
	a.refuses("x", LockOptions{}, discovery.ErrConflict) // one round to etcd: time for a wrong step
	select {
	case <-got:
		t.Fatal("two hold the lock")
	default:
	}
	a.release(held)
	a.release(<-got)
}

func TestSharedLock(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a, b := start(t, "a", etcd.Endpoint()), start(t, "b", etcd.Endpoint())
	three := LockOptions{Shared: 3}
	grants := []*Grant{a.lock("x", three), b.lock("x", three), a.lock("x", three)}
	b.refuses("x", three, discovery.ErrConflict)
	for _, other := range []int{1, 2, 4} {
		b.refuses("x", LockOptions{Shared: other, Wait: time.Minute}, discovery.ErrConflict) // at once
	}
	got := make(chan *Grant, 2)
	for n := range 2 {
		go func() {
			g, err := b.Lock(patient(t), "x", LockOptions{Shared: 3, Wait: time.Minute})
			if err != nil {
				t.Error(err)
			}
			got <- g
		}()
		waiting(t, a.client, keys.Lock("x"), 4+n)
	}
	b.release(grants[1]) // not the eldest
	next := <-got
	select {
	case <-got:
		t.Fatal("four hold a lock that three may hold")
	default:
	}
	a.release(grants[2])
	last := <-got
	if last.Fence() <= next.Fence() {
		t.Errorf("fence %d after %d", last.Fence(), next.Fence())
	}
}

func TestLockIsValidated(t *testing.T) {
	t.Parallel()
	a := start(t, "a", etcdtest.Start(t).Endpoint())
	for name, o := range map[string]LockOptions{"": {}, "a/b": {}, "a": {Shared: -1}, "b": {Shared: MaxShared + 1}, "c": {Wait: -1}, "d": {TTL: -1}} {
		a.refuses(name, o, discovery.ErrInvalid)
	}
}

// A lock with a TTL lasts while it is renewed, and not longer.
func TestLockTTL(t *testing.T) {
	t.Parallel()
	a := start(t, "a", etcdtest.Start(t).Endpoint())
	g := a.lock("x", LockOptions{TTL: 500 * time.Millisecond})
	if v := g.ValidFor(); v > 500*time.Millisecond {
		t.Errorf("valid for %v", v)
	}
	if _, err := a.Renew(KindLock, "y", g.ID()); !errors.Is(err, discovery.ErrNotFound) {
		t.Errorf("renewed under another name: %v", err)
	}
	next := a.lock("x", LockOptions{Wait: time.Minute, TTL: time.Hour})
	if err := lost(t, g); !strings.Contains(err.Error(), "not renewed within its TTL of 500ms") {
		t.Errorf("lost because %v", err)
	}
	if _, err := a.Renew(KindLock, "x", g.ID()); !errors.Is(err, discovery.ErrLost) || g.ValidFor() != 0 {
		t.Errorf("renewed: %v, valid for %v", err, g.ValidFor())
	}
	if _, err := a.Renew(KindLock, "x", next.ID()); err != nil {
		t.Error(err)
	}
}

// Only the agent that granted a lock can say that it is released.
func TestReleaseElsewhere(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a, b := start(t, "a", etcd.Endpoint()), start(t, "b", etcd.Endpoint())
	g := a.lock("x", LockOptions{})
	if b.Release(patient(t), KindLock, "x", g.ID()) {
		t.Error("another agent says that it is released")
	}
	if _, err := b.Renew(KindLock, "x", g.ID()); !errors.Is(err, discovery.ErrNotFound) || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("renewed at another agent: %v", err)
	}
	b.refuses("x", LockOptions{}, discovery.ErrConflict)
	for range 2 {
		a.release(g)
	}
	b.lock("x", LockOptions{})
	if !b.Release(patient(t), KindLock, "x", "nonsense") {
		t.Error("what nobody can have granted is not released")
	}
}

// The lease is revoked: all locks under it are gone, and their holders are told.
func TestLockSessionLost(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a, b := start(t, "a", etcd.Endpoint()), start(t, "b", etcd.Endpoint())
	g := a.lock("x", LockOptions{})
	current, _ := a.session.Lease()
	if _, err := b.client.Revoke(patient(t), current.ID); err != nil {
		t.Fatal(err)
	}
	b.release(b.lock("x", LockOptions{}))
	a.session.Verify(current.ID)
	if err := lost(t, g); !strings.Contains(err.Error(), "session with etcd was lost") {
		t.Errorf("lost because %v", err)
	}
	until(t, "a new session", func() bool {
		l, _ := a.session.Lease()
		return l.ID != 0
	})
	a.lock("x", LockOptions{})
}

// An agent that is cut off from etcd tells its holders before anybody else gets the
// lock, and takes it back only when it asks again.
func TestLockCutOff(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	link := etcdtest.StartLink(t, etcd.Endpoint())
	a, b := startWith(t, "a", lease.MinTTL, link.Endpoint()), start(t, "b", etcd.Endpoint())
	g := a.lock("x", LockOptions{})
	got := make(chan *Grant, 1)
	go func() {
		next, err := b.Lock(patient(t), "x", LockOptions{Wait: time.Minute})
		if err != nil {
			t.Error(err)
		}
		got <- next
	}()
	waiting(t, b.client, keys.Lock("x"), 2)
	link.Freeze()
	select {
	case <-g.Lost():
	case <-got:
		t.Fatal("another has the lock, and its holder does not know")
	}
	if _, err := a.Renew(KindLock, "x", g.ID()); !errors.Is(err, discovery.ErrLost) {
		t.Errorf("renewed: %v", err)
	}
	if next := <-got; next.Fence() <= g.Fence() {
		t.Errorf("fence %d after %d", next.Fence(), g.Fence())
	}
	link.Mend()
}

// A lock that was asked for, and of which the answer was lost, is nobody's.
func TestLockUnanswered(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	link := etcdtest.StartLink(t, etcd.Endpoint())
	a, b := start(t, "a", link.Endpoint()), start(t, "b", etcd.Endpoint())
	link.HoldAnswers()
	ctx, hangUp := context.WithCancel(t.Context())
	gaveUp := make(chan error, 1)
	go func() {
		_, err := a.Lock(ctx, "x", LockOptions{})
		gaveUp <- err
	}()
	waiting(t, b.client, keys.Lock("x"), 1)
	hangUp()
	if err := <-gaveUp; err == nil {
		t.Fatal("got a lock without an answer")
	}
	link.Mend()
	b.lock("x", LockOptions{Wait: time.Minute})
	if l, _ := a.session.Lease(); l.ID == 0 {
		t.Error("it was the lease that ended")
	}
}

// What comes to lie under the session's lease later than the call was given up is swept
// out too.
func TestLateStray(t *testing.T) {
	t.Parallel()
	a := start(t, "a", etcdtest.Start(t).Endpoint())
	mine := a.lock("mine", LockOptions{})
	current, _ := a.session.Lease()
	other := keys.Instance("web", "web-1")
	for _, key := range []string{keys.Lock("x") + "late", other} {
		if _, err := a.client.Put(patient(t), key, `{"id":"nobody's"}`, clientv3.WithLease(current.ID)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.removeOrphans(patient(t)); err != nil {
		t.Fatal(err)
	}
	waiting(t, a.client, keys.Locks(), 1)
	waiting(t, a.client, other, 1) // not of this package
	if _, err := a.Renew(KindLock, "mine", mine.ID()); err != nil {
		t.Error(err)
	}
}

// A stopping agent tells its holders, and waits until they have let go.
func TestClose(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := start(t, "a", etcd.Endpoint())
	g := a.lock("x", LockOptions{})
	g.ValidFor()
	waiter := make(chan error, 1)
	go func() {
		_, err := a.Lock(patient(t), "x", LockOptions{Wait: time.Minute})
		waiter <- err
	}()
	waiting(t, a.client, keys.Lock("x"), 2)
	closed := make(chan bool, 1)
	go func() { closed <- a.Close(patient(t)) }()
	lost(t, g)
	if err := <-waiter; !errors.Is(err, discovery.ErrUnavailable) {
		t.Errorf("the waiter got %v", err)
	}
	waiting(t, a.client, keys.Lock("x"), 1) // it was promised for longer
	select {
	case <-closed:
		t.Error("closed before the holder let go")
	default:
	}
	a.release(g)
	if !<-closed {
		t.Error("not closed cleanly")
	}
	waiting(t, a.client, keys.Locks(), 0)
	a.refuses("y", LockOptions{}, discovery.ErrUnavailable)
}

// A holder that does not let go has its lock for as long as it was promised.
func TestCloseWithoutAnswer(t *testing.T) {
	t.Parallel()
	a := start(t, "a", etcdtest.Start(t).Endpoint())
	g := a.lock("x", LockOptions{TTL: 300 * time.Millisecond})
	g.ValidFor()
	if !a.Close(patient(t)) {
		t.Error("not closed cleanly")
	}
	waiting(t, a.client, keys.Locks(), 0)
}
