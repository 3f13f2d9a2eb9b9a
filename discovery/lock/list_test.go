package lock_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lock"
	"disc/discovery/lock/locktest"
)

// A list shows who holds each lock and who waits, in the order of their requests, and no ids.
func TestList(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a, b := locktest.Start(t, "a", locktest.LongTTL, etcd.Endpoint()), locktest.Start(t, "b", locktest.LongTTL, etcd.Endpoint())
	ctx := etcdtest.Context(t)
	x := b.MustLock("x", lock.Request{})
	one, two := a.MustLock("s", lock.Request{Shared: 2}), b.MustLock("s", lock.Request{Shared: 2})
	waiting := make(chan error, 1)
	go func() {
		_, err := a.Lock(ctx, "s", lock.Request{Shared: 2, Wait: time.Minute})
		waiting <- err
	}()
	locktest.AwaitKeys(t, a.Client, locktest.Keys().Lock("s"), 3)
	if _, err := a.Client.Put(ctx, locktest.Keys().Lock("odd")+"id", "\x1b[2J"); err != nil { // another program's
		t.Fatal(err)
	}

	queues, truncated, err := a.List(ctx)
	if err != nil || truncated || len(queues) != 3 {
		t.Fatalf("got %v, %v, %v", queues, truncated, err)
	}
	odd, s := queues[0], queues[1]
	if odd.Name != "odd" || len(odd.Holders) != 1 || odd.Holders[0].Node != "" {
		t.Errorf("got %+v", odd)
	}
	if s.Name != "s" || s.Shared != 2 || len(s.Holders) != 2 || len(s.Waiters) != 1 {
		t.Fatalf("got %+v", s)
	}
	for n, g := range []*lock.Grant{one, two} {
		if h := s.Holders[n]; h.Fence != g.Fence() || h.Holder != lock.ShortID(g.ID()) || !strings.HasPrefix(g.ID(), h.Holder) || len(g.ID())-len(h.Holder) != 20 || time.Since(h.Asked) > time.Hour {
			t.Errorf("got %+v, want %s", h, g.ID())
		}
	}
	if s.Holders[0].Node != "a" || s.Holders[1].Node != "b" || s.Waiters[0].Node != "a" {
		t.Errorf("got %+v", s)
	}
	q, err := a.Queue(ctx, "x")
	if err != nil || len(q.Holders) != 1 || q.Holders[0].Fence != x.Fence() || len(q.Waiters) != 0 {
		t.Errorf("got %+v, %v", q, err)
	}
	if _, err := a.Queue(ctx, "nosuch"); !errors.Is(err, discovery.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if _, err := a.Queue(ctx, "x/"); !errors.Is(err, discovery.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	b.MustRelease(two)
	if err := <-waiting; err != nil {
		t.Error(err)
	}
}

// A list that is too long says so, and shows no lock in part.
func TestListTruncated(t *testing.T) {
	t.Parallel()
	a := locktest.Start(t, "a", locktest.LongTTL, etcdtest.Start(t).Endpoint())
	ctx := etcdtest.Context(t)
	for from := 0; from <= lock.MaxListed; from += 100 {
		var ops []clientv3.Op
		for n := range 100 {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s%d", locktest.Keys().Lock(fmt.Sprintf("l%05d", (from+n)/3)), n), `{"node":"b","shared":1}`))
		}
		if _, err := a.Client.Txn(ctx).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	queues, truncated, err := a.List(ctx)
	if err != nil || !truncated || len(queues) != lock.MaxListed/3 {
		t.Errorf("got %d locks, truncated %v, %v", len(queues), truncated, err)
	}
	for _, q := range queues {
		if len(q.Holders)+len(q.Waiters) != 3 {
			t.Errorf("got %+v", q)
		}
	}
}
