package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"disc/discovery"
	"disc/discovery/catalog"
	"disc/discovery/etcd"
)

// changeRows measure the time from the put of a change to the last agent that sees it, and
// the CPU time that one agent uses for it. An agent is a catalog with its own etcd client. All
// of them run in this process, and so do the raw watches of the other side, over connections
// of the same kind.
func changeRows() []row {
	var all []row
	for _, agents := range []int{1, 100, 1000} {
		r := row{
			name:    fmt.Sprintf("change-%d", agents),
			about:   fmt.Sprintf("from the put of an instance to the lookup at the last of %d agents (catalogs in one process, a client each)", agents),
			against: "raw etcd watches",
			figures: []figure{{name: "p50", unit: "ms"}, {name: "p99", unit: "ms"}, {name: "CPU each", unit: "µs"}},
			start:   func(ctx context.Context, s *stage) (pair, error) { return startChange(ctx, s, agents) },
		}
		if agents == 100 {
			r.figures[1].bound = atMost(1.2)
		}
		all = append(all, r)
	}
	return all
}

func startChange(ctx context.Context, s *stage, agents int) (pair, error) {
	_, client, err := s.etcd()
	if err != nil {
		return pair{}, err
	}
	if err := fill(ctx, client, 100); err != nil {
		return pair{}, err
	}
	changes, agents := s.size(min(400, 40_000/agents), 5), s.size(agents, 5)
	side := func(watch func(*fanOut, context.Context, *clientv3.Client) error) side {
		return func(ctx context.Context) ([]float64, error) {
			f := newFanOut(agents)
			took, used, err := f.run(ctx, client, changes, watch)
			slices.Sort(took)
			return []float64{millis(quantile(took, 0.5)), millis(quantile(took, 0.99)), micros(used) / float64(changes*agents)}, err
		}
	}
	return pair{side((*fanOut).watchCatalog), side((*fanOut).watchRaw)}, nil
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

// fanOut measures the delivery of changes to many agents.
type fanOut struct {
	agents int
	seen   chan int64 // each agent sends the revision of each change that it sees
}

func newFanOut(agents int) *fanOut { return &fanOut{agents: agents, seen: make(chan int64, agents)} }

// run starts the agents and changes an instance again and again. It returns the time of each
// change until the last agent has seen it, and the CPU time that all agents used.
func (f *fanOut) run(ctx context.Context, client *clientv3.Client, changes int, watch func(*fanOut, context.Context, *clientv3.Client) error) (took []time.Duration, used time.Duration, err error) {
	ctx, end := context.WithCancel(ctx)
	group, watching := errgroup.WithContext(ctx)
	defer func() {
		end()
		group.Wait() // their errors are the cancellation
	}()
	for range f.agents {
		own, err := etcd.Dial(ctx, etcd.Config{Endpoints: client.Endpoints()})
		if err != nil {
			return nil, 0, err
		}
		defer own.Close()
		group.Go(func() error { return watch(f, watching, own) })
	}
	if _, err := f.change(watching, client, 0); err != nil { // returns when all agents run
		return nil, 0, err
	}
	runtime.GC() // so that the agents do not collect the garbage of earlier rows
	before, err := cpuTime(os.Getpid())
	if err != nil {
		return nil, 0, err
	}
	for n := range changes {
		each, err := f.change(watching, client, n+1)
		if err != nil {
			return nil, 0, err
		}
		took = append(took, each)
	}
	after, err := cpuTime(os.Getpid())
	return took, after - before, err
}

// change changes an instance, and returns the time until all agents have seen the change.
func (f *fanOut) change(ctx context.Context, client *clientv3.Client, n int) (time.Duration, error) {
	i := instance("web", 0)
	i.Weight = n + 1
	start := time.Now()
	at, err := client.Put(ctx, discovery.NewKeys("default").Instance(i.Service, i.ID), string(i.Encode()))
	if err != nil {
		return 0, cmp.Or(context.Cause(ctx), err)
	}
	err = f.await(ctx, at.Header.Revision)
	return time.Since(start), err
}

// await waits until all agents have seen a revision, at most [waitTimeout].
func (f *fanOut) await(ctx context.Context, revision int64) error {
	late := time.NewTimer(waitTimeout)
	defer late.Stop()
	for left := f.agents; left > 0; {
		select {
		case at := <-f.seen:
			if at == revision {
				left--
			}
		case <-late.C:
			return fmt.Errorf("%d of %d agents have not seen revision %d within %v", left, f.agents, revision, waitTimeout)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// watchCatalog is an agent. It sends each revision of the service that a lookup answers with.
func (f *fanOut) watchCatalog(ctx context.Context, client *clientv3.Client) error {
	c, err := catalog.New(client, discovery.NewKeys("default"), catalog.Options{})
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { c.Run(ctx) })
	for last := int64(0); ; {
		changed := c.Changed("web")
		if web, err := c.Service("web"); err == nil && len(web.Eligible()) > 0 && web.Revision > last {
			last = web.Revision
			f.seen <- last
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// watchRaw is a watch of the same keys. It sends the revision of each event.
func (f *fanOut) watchRaw(ctx context.Context, client *clientv3.Client) error {
	prefix := discovery.NewKeys("default").Prefix()
	now, err := client.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return err
	}
	f.seen <- now.Header.Revision
	for events := range client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(now.Header.Revision+1)) {
		if err := events.Err(); err != nil {
			return err
		}
		f.seen <- events.Header.Revision
	}
	return nil
}
