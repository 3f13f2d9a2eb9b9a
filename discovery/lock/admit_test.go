package lock_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lock"
	"disc/discovery/lock/locktest"
	"disc/discovery/quota"
)

// While etcd has no space no lock is granted; renewals and releases go on.
func TestNoSpaceForGrants(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	client := etcdtest.Client(t, etcd.Endpoint())
	before := locktest.Start(t, "before", locktest.LongTTL, etcd.Endpoint())
	g := before.MustLock("a", lock.Request{TTL: time.Minute})
	agent := locktest.StartWith(t, locktest.LongTTL, lock.Options{Space: quota.NewSpace(client, 0)}, etcd.Endpoint())
	etcdtest.RaiseNoSpace(t, client)
	if _, err := agent.Lock(etcdtest.Context(t), "b", lock.Request{}); !errors.Is(err, discovery.ErrStorageFull) || !strings.Contains(err.Error(), `lock "b": etcd has`) {
		t.Error(err)
	}
	if n := agent.Transactions("lock"); n != 0 {
		t.Errorf("%v transactions were sent for it", n)
	}
	if _, err := before.Renew("a", g.ID()); err != nil {
		t.Error(err)
	}
	before.MustRelease(g)
}

// Requests for locks are bounded, and neither renewals nor releases are.
func TestTooManyRequestsForGrants(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	agent := locktest.StartWith(t, locktest.LongTTL, lock.Options{Rate: quota.NewRate(1)}, etcd.Endpoint())
	g := agent.MustLock("a", lock.Request{TTL: time.Minute})
	busy, ctx := make(chan error, 200), etcdtest.Context(t)
	var callers sync.WaitGroup
	for range cap(busy) {
		callers.Go(func() {
			if _, err := agent.Lock(ctx, "a", lock.Request{}); errors.Is(err, discovery.ErrBusy) {
				busy <- err
			}
		})
	}
	callers.Wait()
	if len(busy) == 0 {
		t.Error("no request is refused")
	}
	for range 200 {
		if _, err := agent.Renew("a", g.ID()); err != nil {
			t.Fatal(err)
		}
	}
	agent.MustRelease(g)
}
