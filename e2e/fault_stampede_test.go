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
	"disc/discovery/life"
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
// second for each 500 instances, at most 5 s. The test is not parallel, since it leaves little of
// the machine to others.
func TestFaultRegisteringAgain(t *testing.T) {
	etcdtest.SkipUnlessLong(t, "registers three thousand instances twice")
	const agents, each, jitter = 1000, 3, 5 * time.Second
	// An even spread has 600 writes a second. Half of all within a second is no spread any more.
	const most = agents * each / 2
	etcd := startMember(t)
	client, observer := etcdtest.Client(t, etcd.endpoint), etcdtest.Client(t, etcd.endpoint)
	view := runCatalog(t, client)
	all, hosts := newFleet(t, client, view), make([]host, agents)
	var starting errgroup.Group
	starting.SetLimit(16)
	for n := range hosts {
		starting.Go(func() error {
			id := fmt.Sprintf("web-%04d-", n)
			hosts[n] = all.host(fmt.Sprintf("n%04d", n))
			for i := range each {
				hosts[n].put("web", id+fmt.Sprint(i))
			}
			_, err := hosts[n].AwaitSettled(t.Context(), "web", id+"0")
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

	stall := measureStall(t)
	etcd.wipe(t)
	within(t, time.Now(), 4*waitTimeout, "all instances are registered again", func() error {
		n, err := records(t, observer)
		if err == nil && n != agents*each {
			err = fmt.Errorf("%d instances", n)
		}
		return err
	})
	// An agent sends all its records at once. What is due while the process stalls is sent
	// together after that.
	sent := make([]time.Time, 0, agents)
	for _, h := range hosts {
		sent = append(sent, h.sent.time())
	}
	slices.SortFunc(sent, time.Time.Compare)
	window := time.Second + stall()
	peak := int(float64(each*mostWithin(sent, window)) / window.Seconds())
	t.Logf("at most %d writes a second, bound %d; all were sent in %v", peak, most, sent[len(sent)-1].Sub(sent[0]))
	if peak > most {
		t.Errorf("%d writes a second, want at most %d", peak, most)
	}
}

// mostWithin returns the largest number of times that lie within a window. The times are
// sorted.
func mostWithin(times []time.Time, window time.Duration) (most int) {
	first := 0
	for last := range times {
		for times[last].Sub(times[first]) > window {
			first++
		}
		most = max(most, last-first+1)
	}
	return most
}

// measureStall measures how late this process runs what is due. The function that it returns
// ends that, and returns the longest delay.
func measureStall(t *testing.T) func() time.Duration {
	const every = 5 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	longest := make(chan time.Duration, 1)
	go func() {
		var stall time.Duration
		for last := time.Now(); ctx.Err() == nil; last = time.Now() {
			time.Sleep(every)
			stall = max(stall, time.Since(last)-every)
		}
		longest <- stall
	}()
	return func() time.Duration { cancel(); return <-longest }
}

// runCatalog runs a catalog as an agent does, until the test ends.
func runCatalog(t *testing.T, client *clientv3.Client) *catalog.Catalog {
	t.Helper()
	c := etcdtest.Must(catalog.New(client, fleetKeys, catalog.Options{Life: life.New(client, fleetKeys, life.Options{}), MassLoss: &catalog.MassLossGuard{TTL: ttl}}))
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
