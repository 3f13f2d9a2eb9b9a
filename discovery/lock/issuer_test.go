package lock_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lock"
	"disc/discovery/lock/locktest"
)

// seat is a resource of a kind of its own.
type seat struct {
	gone     atomic.Bool
	released atomic.Int64 // the fence
}

func (s *seat) Gone() error {
	if s.gone.Load() {
		return errors.New("the seat is gone")
	}
	return nil
}

func (s *seat) Released(_ string, fence, _ int64) { s.released.Store(fence) }

const seatKey = "/seats/1"

// request requests a seat and creates its key.
func request(t *testing.T, issuer *lock.Issuer, ttl time.Duration) (p *lock.PendingGrant, fence int64) {
	t.Helper()
	p, err := issuer.Request(etcdtest.Context(t), "1", ttl)
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.Transact(etcdtest.Context(t), func(base int64) clientv3.Op {
		return clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(seatKey), "=", 0)},
			[]clientv3.Op{clientv3.OpPut(seatKey, fmt.Sprintf(`{"id":%q,"base":%d}`, p.ID(), base), clientv3.WithLease(p.Lease()))}, nil)
	})
	if err != nil || !r.Succeeded {
		t.Fatalf("put the key: %v, %v", r, err)
	}
	return p, r.Header.Revision
}

// A further kind of grants is renewed, released, lost and cleared of orphans as locks are.
func TestIssuer(t *testing.T) {
	t.Parallel()
	a := locktest.Start(t, "a", locktest.LongTTL, etcdtest.Start(t).Endpoint())
	issuer := a.NewIssuer("seat", "/seats/")
	confirm := func(r *seat) (*lock.Grant, error) {
		t.Helper()
		p, fence := request(t, issuer, time.Minute)
		return p.Confirm(etcdtest.Context(t), seatKey, fence, r)
	}

	first := &seat{}
	g := etcdtest.Must(confirm(first))
	if g.Resource() != lock.Resource(first) || g.Name() != "1" || g.ValidFor() <= 0 {
		t.Errorf("got %+v", g)
	}
	if _, err := issuer.Renew(g.ID()); err != nil {
		t.Errorf("renew: %v", err)
	}
	if _, err := a.Renew("1", g.ID()); !errors.Is(err, discovery.ErrNotFound) {
		t.Errorf("renewed as a lock: %v", err)
	}
	if err := lock.RemoveOrphans(a.Manager, etcdtest.Context(t)); err != nil {
		t.Fatal(err)
	}
	locktest.AwaitKeys(t, a.Client, seatKey, 1)
	if done, err := issuer.Release(etcdtest.Context(t), g.ID()); !done || err != nil || first.released.Load() != g.Fence() {
		t.Errorf("released with fence %d, want %d", first.released.Load(), g.Fence())
	}
	locktest.AwaitKeys(t, a.Client, seatKey, 0)

	second := &seat{}
	g = etcdtest.Must(confirm(second))
	second.gone.Store(true)
	if err := locktest.AwaitLost(t, g); err.Error() != `seat "1" is lost: the seat is gone` {
		t.Errorf("lost because %v", err)
	}
	locktest.AwaitKeys(t, a.Client, seatKey, 0)
	if second.released.Load() != 0 {
		t.Error("a lost grant is reported as released")
	}

	third := &seat{}
	third.gone.Store(true)
	if _, err := confirm(third); !errors.Is(err, discovery.ErrLost) || third.released.Load() == 0 {
		t.Errorf("confirmed a seat that is gone: %v", err)
	}
	locktest.AwaitKeys(t, a.Client, seatKey, 0)

	p, _ := request(t, issuer, 0)
	p.Abandon()
	locktest.AwaitKeys(t, a.Client, seatKey, 0)
}
