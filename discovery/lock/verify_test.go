package lock_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/life"
	"disc/discovery/lock"
	"disc/discovery/lock/locktest"
	"disc/discovery/retry/retrytest"
)

// A grant whose key was deleted or overwritten in etcd is lost at once, soon after it was granted
// as well as while its key is watched.
func TestKeyChanged(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a, b := locktest.Start(t, "a", locktest.LongTTL, etcd.Endpoint()), locktest.Start(t, "b", locktest.LongTTL, etcd.Endpoint())
	current, _ := a.Session.Lease()
	for name, test := range map[string]struct {
		change func(key string) clientv3.Op
		reason string
	}{
		"deleted": {func(key string) clientv3.Op { return clientv3.OpDelete(key) }, "its key is gone from etcd"},
		"without its lease": {func(key string) clientv3.Op {
			return clientv3.OpPut(key, `{"id":"`+key[strings.LastIndex(key, "/")+1:]+`"}`)
		}, "its key in etcd was overwritten"},
		"of another grant":  {func(key string) clientv3.Op { return clientv3.OpPut(key, `{"id":"x"}`, clientv3.WithLease(current.ID)) }, "its key in etcd was overwritten"},
		"that says nothing": {func(key string) clientv3.Op { return clientv3.OpPut(key, `x`, clientv3.WithLease(current.ID)) }, "its key in etcd was overwritten"},
	} {
		for when, delay := range map[string]time.Duration{"at once": 0, "later": 2 * lock.WatchDelay} {
			t.Run(name+" "+when, func(t *testing.T) {
				t.Parallel()
				lockName := strings.ReplaceAll(name+when, " ", "-")
				g := a.MustLock(lockName, lock.Request{})
				<-time.After(delay)
				key := locktest.Keys().Lock(lockName) + g.ID()
				if _, err := b.Client.Do(etcdtest.Context(t), test.change(key)); err != nil {
					t.Fatal(err)
				}
				if err := locktest.AwaitLost(t, g); !strings.HasSuffix(err.Error(), test.reason) {
					t.Errorf("lost because %v", err)
				}
				if _, err := a.Renew(lockName, g.ID()); !errors.Is(err, discovery.ErrLost) {
					t.Errorf("renewed: %v", err)
				}
			})
		}
	}
	a.MustLock("another", lock.Request{}) // what was lost keeps nobody from granting
}

// quarantine sets the length of the quarantines of an etcd.
func quarantine(t *testing.T, endpoint string, length time.Duration) {
	t.Helper()
	if _, err := etcdtest.Client(t, endpoint).Put(t.Context(), locktest.Keys().QuarantineLength(), `{"length":"`+length.String()+`"}`); err != nil {
		t.Fatal(err)
	}
}

// In a new life of etcd a grant whose key stands is still held, nothing else is granted until the
// quarantine ends, keys that came back are removed, and fences go on from above the earlier ones.
func TestStartedOver(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	quarantine(t, etcd.Endpoint(), 10*time.Second)
	a, b := locktest.Start(t, "a", locktest.LongTTL, etcd.Endpoint()), locktest.Start(t, "b", locktest.LongTTL, etcd.Endpoint())
	held := a.MustLock("held", lock.Request{})
	if v := held.ValidFor(); v > 8*time.Second {
		t.Errorf("valid for %v, which is longer than four fifths of a quarantine", v)
	}
	current, _ := a.Session.Lease()
	back := locktest.Keys().Lock("back") + "released"
	if _, err := a.Client.Put(t.Context(), back, `{"id":"released","shared":1}`, clientv3.WithLease(current.ID)); err != nil {
		t.Fatal(err)
	}
	waiting := make(chan *lock.Grant, 1)
	go func() {
		g, err := b.Lock(etcdtest.Context(t), "held", lock.Request{Wait: time.Hour})
		if err != nil {
			t.Error(err)
		}
		waiting <- g
	}()
	locktest.AwaitKeys(t, b.Client, locktest.Keys().Lock("held"), 2)

	a.Life().Disprove("a test says so")
	retrytest.Eventually(t, "the new life", func() bool { n, _ := a.Life().Count(); return n == 1 })
	_, err := a.Lock(etcdtest.Context(t), "other", lock.Request{})
	if !errors.Is(err, discovery.ErrUnavailable) || !strings.Contains(err.Error(), "started over") {
		t.Errorf("during the quarantine: %v", err)
	}
	if _, err := b.Lock(etcdtest.Context(t), "other", lock.Request{}); !life.Uncertain(err) {
		t.Errorf("during the quarantine, at the other agent: %v", err)
	}
	if _, err := a.Renew("held", held.ID()); err != nil {
		t.Errorf("during the quarantine: %v", err)
	}
	second := b.MustLock("back", lock.Request{Wait: time.Minute})
	if second.Fence() < held.Fence()+life.BaseStep {
		t.Errorf("fence %d after %d in the earlier life", second.Fence(), held.Fence())
	}
	select {
	case <-waiting:
		t.Error("two hold a lock")
	default:
	}
	a.MustRelease(held)
	if next := <-waiting; next.Fence() < held.Fence()+life.BaseStep {
		t.Errorf("fence %d after %d in the earlier life", next.Fence(), held.Fence())
	}
}

// A grant whose resource is gone is lost at once, but nobody else gets it before the end of what was
// promised.
func TestPromiseOutlastsResource(t *testing.T) {
	t.Parallel()
	a := locktest.Start(t, "a", locktest.LongTTL, etcdtest.Start(t).Endpoint())
	issuer := a.NewIssuer("seat", "/seats/")
	p, created := request(t, issuer, 2*time.Second)
	r := &seat{}
	g := etcdtest.Must(p.Confirm(etcdtest.Context(t), seatKey, created, r))
	promised := time.Now().Add(g.ValidFor())
	r.gone.Store(true)
	locktest.AwaitLost(t, g)
	if time.Now().After(promised) {
		t.Skip("the machine was too slow to see the loss before the promise ended")
	}
	locktest.AwaitKeys(t, a.Client, seatKey, 0)
	if left := time.Until(promised); left > 0 {
		t.Errorf("another holder could have the seat %v before the end of the promise", left)
	}
}
