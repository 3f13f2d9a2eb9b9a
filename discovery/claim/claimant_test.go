package claim

import (
	"cmp"
	"errors"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/catalog"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lock/locktest"
	"disc/discovery/retry/retrytest"
)

// claimant is an agent that claims.
type claimant struct {
	*Claims
	catalog *catalog.Catalog
	agent   *locktest.Agent
	t       *testing.T
	stop    func() // ends Run
}

func startClaimant(t *testing.T, node string, endpoints ...string) *claimant {
	t.Helper()
	return startClaimantWith(t, node, locktest.LongTTL, catalog.WatchAll, endpoints...)
}

func startClaimantWith(t *testing.T, node string, ttl time.Duration, watch catalog.WatchMode, endpoints ...string) *claimant {
	t.Helper()
	return newClaimant(t, locktest.Start(t, node, ttl, endpoints...), node, watch)
}

func newClaimant(t *testing.T, a *locktest.Agent, node string, watch catalog.WatchMode) *claimant {
	t.Helper()
	view := etcdtest.Must(catalog.New(a.Client, keys, catalog.Options{Life: a.Life(), Watch: watch}))
	c := &claimant{Claims: New(a.Client, keys, a.Manager, view, Options{Node: node}), catalog: view, agent: a, t: t}
	locktest.Run(t, view.Run)
	c.stop = locktest.Run(t, c.Run)
	return c
}

// startPair runs two agents that see an instance "gpu-1" with one slot.
func startPair(t *testing.T) (a, b *claimant) {
	t.Helper()
	etcd := etcdtest.Start(t)
	a, b = startClaimant(t, "a", etcd.Endpoint()), startClaimant(t, "b", etcd.Endpoint())
	register(t, a.agent.Client, "gpu-1", 1)
	a.sees("gpu", 1)
	b.sees("gpu", 1)
	return a, b
}

// sees waits until the agent's catalog has n healthy instances of a service.
func (c *claimant) sees(service string, n int) {
	c.t.Helper()
	retrytest.Eventually(c.t, "the catalog", func() bool {
		view, err := c.catalog.View()
		if err != nil {
			return false
		}
		s, ok := view.Snapshot.Service(service)
		return ok && s.Healthy() == n
	})
}

// claim claims a slot, which must succeed. Without a time to wait in the request it waits until a slow machine lets etcd
// answer.
func (c *claimant) claim(service string, o Request) *Grant {
	c.t.Helper()
	o.Wait = cmp.Or(o.Wait, time.Minute)
	g, err := c.Claim(etcdtest.Context(c.t), service, o)
	if err != nil {
		c.t.Fatalf("claim %s: %v", service, err)
	}
	return g
}

// full claims a slot, which must fail because none is free.
func (c *claimant) full(service string, o Request) {
	c.t.Helper()
	g, err := c.Claim(etcdtest.Context(c.t), service, o)
	if !errors.Is(err, discovery.ErrUnavailable) || !strings.Contains(err.Error(), "free slot") {
		c.t.Fatalf("claim %s: got %v, %v", service, g, err)
	}
}

// release releases a claim, which etcd must confirm.
func (c *claimant) release(g *Grant) {
	c.t.Helper()
	locktest.AwaitReleased(c.t, func() (bool, error) { return c.Release(etcdtest.Context(c.t), g.ID()) })
}

// transactions returns the number of transactions that the agent has sent for claims.
func (c *claimant) transactions() float64 { return c.agent.Transactions("claim") }

// waiters returns the number of callers that wait for a slot of a service.
func (c *claimant) waiters(service string) int {
	c.slots.mu.Lock()
	defer c.slots.mu.Unlock()
	return len(c.slots.service(service).waiters)
}

// register writes the record of an instance.
func register(t *testing.T, c *clientv3.Client, id string, slots int, edit ...func(*discovery.Instance)) {
	t.Helper()
	i := discovery.Instance{Service: "gpu", ID: id, Address: "10.0.0.1", Port: 80, Weight: 1, Slots: slots, Status: discovery.Passing}
	for _, f := range edit {
		f(&i)
	}
	if _, err := c.Put(etcdtest.Context(t), keys.Instance(i.Service, i.ID), string(i.Encode())); err != nil {
		t.Fatal(err)
	}
}
