package e2e_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"disc/discovery/catalog"
	"disc/discovery/devetcd/etcdtest"
)

// wipe kills etcd and restarts it without its data.
func (m *member) wipe(t *testing.T) {
	t.Helper()
	m.kill()
	if err := os.RemoveAll(m.argv[slices.Index(m.argv, "--data-dir")+1]); err != nil {
		t.Fatal(err)
	}
	m.start(t)
}

// TestFaultRegisteringAgain wipes the etcd of a thousand agents. They register again, spread over a
// second for each 500 instances, at most 5 s. The test is not parallel: it measures the rate of
// writes, which other tests would make uneven.
func TestFaultRegisteringAgain(t *testing.T) {
	const agents, each, jitter = 1000, 3, 5 * time.Second
	const most = 2 * agents * each * int(time.Second) / int(jitter) // writes a second
	etcd := startMember(t)
	client, observer := etcdtest.Client(t, etcd.endpoint), etcdtest.Client(t, etcd.endpoint)
	view := runCatalog(t, client)
	all := newFleet(t, client, view)
	var starting errgroup.Group
	starting.SetLimit(16)
	for n := range agents {
		starting.Go(func() error {
			h, id := all.host(fmt.Sprintf("n%04d", n)), fmt.Sprintf("web-%04d-", n)
			for i := range each {
				h.put("web", id+fmt.Sprint(i))
			}
			_, err := h.AwaitSettled(t.Context(), "web", id+"0")
			return err
		})
	}
	if err := starting.Wait(); err != nil {
		t.Fatal(err)
	}
	within(t, time.Now(), waitTimeout, "all agents are seen", func() error {
		if v, err := view.View(); err != nil || v.Snapshot.NodeCount() != agents {
			return fmt.Errorf("not all agents are seen: %w", err)
		}
		return nil
	})

	etcd.wipe(t)
	wiped := time.Now()
	var counts growth
	within(t, wiped, 4*waitTimeout, "all instances are registered again", func() error {
		n, err := records(t, observer)
		if err == nil {
			counts = append(counts, count{time.Now(), n})
			if n != agents*each {
				err = fmt.Errorf("%d instances", n)
			}
		}
		return err
	})
	bound, took := most, counts.took()
	if took > jitter+jitter/5 {
		// The machine was too slow for the agents, which all write within the jitter: delayed
		// writes come all at once.
		bound *= 2
	}
	if peak := counts.peak(); peak > bound {
		t.Errorf("%d writes a second, want at most %d; all took %v", peak, bound, took)
	} else {
		t.Logf("at most %d writes a second, bound %d; all took %v", peak, bound, took)
	}
}

// runCatalog runs a catalog as an agent does, until the test ends.
func runCatalog(t *testing.T, client *clientv3.Client) *catalog.Catalog {
	t.Helper()
	c := etcdtest.Must(catalog.New(client, fleetKeys, catalog.Options{MakeEpoch: true, MassLoss: &catalog.MassLossGuard{TTL: ttl}}))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { c.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return c
}

// records returns the number of instances in etcd.
func records(t *testing.T, etcd *clientv3.Client) (int, error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	got, err := etcd.Get(ctx, fleetKeys.Services(), clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return 0, err
	}
	return int(got.Count), nil
}

// growth has the number of records at successive times.
type growth []count

type count struct {
	at      time.Time
	records int
}

// peak returns the fastest growth in records a second. Its window is a second and the longest time
// without a count, since writes that waited in that time come at once.
func (g growth) peak() int {
	window := time.Second + g.silence()
	fastest := 0.0
	for first, last := 0, 0; last < len(g); last++ {
		for first+1 < last && g[last].at.Sub(g[first+1].at) >= window {
			first++
		}
		if d := g[last].at.Sub(g[first].at); d >= window {
			fastest = max(fastest, float64(g[last].records-g[first].records)/d.Seconds())
		}
	}
	return int(fastest)
}

// took returns the time from the first record to the last count.
func (g growth) took() time.Duration {
	first := slices.IndexFunc(g, func(c count) bool { return c.records > 0 })
	return g[len(g)-1].at.Sub(g[first].at)
}

// silence returns the longest time between two counts.
func (g growth) silence() (longest time.Duration) {
	for n := 1; n < len(g); n++ {
		longest = max(longest, g[n].at.Sub(g[n-1].at))
	}
	return longest
}
