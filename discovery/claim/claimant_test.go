package claim

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"disc/discovery"
	"disc/discovery/catalog"
	"disc/discovery/devetcd/etcdtest"
)

// claimant is an agent that claims.
type claimant struct {
	*Claims
	catalog *catalog.Catalog
	agent   *agent
	t       *testing.T
	stop    func() // ends Run
}

func startClaimant(t *testing.T, node string, endpoints ...string) *claimant {
	t.Helper()
	return startClaimantWith(t, node, time.Minute, endpoints...)
}

func startClaimantWith(t *testing.T, node string, ttl time.Duration, endpoints ...string) *claimant {
	t.Helper()
	return startClaimantOn(t, node, ttl, catalog.WatchAll, endpoints...)
}

func startClaimantOn(t *testing.T, node string, ttl time.Duration, watch catalog.WatchMode, endpoints ...string) *claimant {
	t.Helper()
	a := startWith(t, node, ttl, endpoints...)
	view := etcdtest.Must(catalog.New(a.client, keys, catalog.Options{MakeEpoch: true, Watch: watch}))
	c := &claimant{Claims: NewClaims(a.Manager, view), catalog: view, agent: a, t: t}
	runUntilEnd(t, view.Run)
	c.stop = runUntilEnd(t, c.Run)
	return c
}

// runUntilEnd runs a part until stop is called or the test ends.
func runUntilEnd(t *testing.T, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running errgroup.Group
	running.Go(func() error { return run(ctx) })
	stop = func() {
		cancel()
		if err := running.Wait(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// sees waits until the agent's catalog has so many instances of a service.
func (c *claimant) sees(service string, n int) {
	c.t.Helper()
	until(c.t, "the catalog", func() bool {
		view, err := c.catalog.View()
		if err != nil {
			return false
		}
		s, ok := view.Snapshot.Service(service)
		return ok && s.Healthy() == n
	})
}

func (c *claimant) claim(service string, o ClaimOptions) *Grant {
	c.t.Helper()
	g, err := c.Claim(patient(c.t), service, o)
	if err != nil {
		c.t.Fatalf("claim %s: %v", service, err)
	}
	return g
}

func (c *claimant) full(service string, o ClaimOptions) {
	c.t.Helper()
	g, err := c.Claim(patient(c.t), service, o)
	if !errors.Is(err, discovery.ErrUnavailable) || !strings.Contains(err.Error(), "free slot") {
		c.t.Fatalf("claim %s: got %v, %v", service, g, err)
	}
}

// transactions is how many the agent has sent for claims.
func (c *claimant) transactions() float64 {
	var m dto.Metric
	if err := c.metrics.calls.WithLabelValues(string(KindClaim)).Write(&m); err != nil {
		c.t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// register writes the record of an instance.
func register(t *testing.T, c *clientv3.Client, id string, slots int, edit ...func(*discovery.Instance)) {
	t.Helper()
	i := discovery.Instance{Service: "gpu", ID: id, Address: "10.0.0.1", Port: 80, Weight: 1, Slots: slots, Status: discovery.Passing}
	for _, f := range edit {
		f(&i)
	}
	if _, err := c.Put(patient(t), keys.Instance(i.Service, i.ID), string(i.Encode())); err != nil {
		t.Fatal(err)
	}
}
