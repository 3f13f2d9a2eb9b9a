package claim

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/catalog"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/etcd"
	"disc/discovery/lock/locktest"
	"disc/discovery/retry/retrytest"
)

// forbiddenReads refuses to read the keys below a prefix while forbidden, as etcd does.
type forbiddenReads struct {
	clientv3.KV
	prefix    string
	forbidden atomic.Bool
}

func (f *forbiddenReads) refuse(key string) error {
	if f.forbidden.Load() && strings.HasPrefix(key, f.prefix) {
		return rpctypes.ErrPermissionDenied
	}
	return nil
}

func (f *forbiddenReads) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	if err := f.refuse(key); err != nil {
		return nil, err
	}
	return f.KV.Get(ctx, key, opts...)
}

func (f *forbiddenReads) GetStream(ctx context.Context, key string, opts ...clientv3.OpOption) (clientv3.GetStreamChan, error) {
	if err := f.refuse(key); err != nil {
		return nil, err
	}
	return f.KV.GetStream(ctx, key, opts...)
}

// A service whose claims etcd forbids to read holds up no other one. It can be claimed from again,
// also by those that wait, once etcd permits that.
func TestForbiddenClaims(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	link := etcdtest.StartLink(t, s.Endpoint())
	client := etcdtest.Client(t, link.Endpoint()) // of the claims only
	reads := &forbiddenReads{KV: client.KV, prefix: keys.ClaimsOf("gpu")}
	client.KV = reads
	a := locktest.Start(t, "a", locktest.LongTTL, link.Endpoint())
	view := etcdtest.Must(catalog.New(a.Client, keys, catalog.Options{Life: a.Life()}))
	c := &claimant{Claims: New(client, keys, a.Manager, view, Options{Node: "a"}), catalog: view, agent: a, t: t}
	locktest.Run(t, view.Run)
	c.stop = locktest.Run(t, c.Run)
	direct := etcdtest.Client(t, s.Endpoint())
	register(t, direct, "cpu-1", 2, func(i *discovery.Instance) { i.Service = "cpu" })
	register(t, direct, "gpu-1", 1)
	c.sees("cpu", 1)
	c.sees("gpu", 1)
	c.claim("cpu", Request{})
	held := c.claim("gpu", Request{})
	waited := make(chan error, 1)
	go func() {
		_, err := c.Claim(etcdtest.Context(t), "gpu", Request{Wait: time.Minute})
		waited <- err
	}()
	retrytest.Eventually(t, "a caller waits", func() bool { return c.waiters("gpu") == 1 })

	reads.forbidden.Store(true)
	link.Cut()
	link.Mend()
	retrytest.Eventually(t, "a claim says why it fails", func() bool {
		_, err := c.Claim(etcdtest.Context(t), "gpu", Request{})
		return etcd.Refused(err) == etcd.RefusedPermission
	})
	retrytest.Eventually(t, "the others are current", func() bool { return c.reflector.Health().Err == nil })
	etcdtest.Must(a.Life().AwaitGuard(etcdtest.Context(t))) // the break may have been an outage on a busy machine
	c.claim("cpu", Request{})

	reads.forbidden.Store(false)
	c.full("gpu", Request{})
	c.release(held)
	if err := <-waited; err != nil {
		t.Errorf("who waits: %v", err)
	}
}
