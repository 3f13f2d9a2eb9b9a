package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"disc/discovery"
)

// Interest watches: each agent watches some of the fleet's services.
const (
	interestServices = 1000
	servicesPerAgent = 5
	writers          = 32 // concurrent puts
)

func interestRows() []row {
	return []row{{
		name:    "lazy-10000",
		about:   fmt.Sprintf("puts a second beside 10000 agents, each with a connection and watches on %d of %d services", servicesPerAgent, interestServices),
		against: "etcd without watches",
		figures: []figure{{name: "puts", unit: "/s", bound: atLeast(0.5)}, {name: "etcd CPU a put, delivered", unit: "µs"}},
		start: func(ctx context.Context, s *stage) (pair, error) {
			return startInterest(ctx, s, s.size(10_000, 20), servicesOf)
		},
	}, {
		name:    "all-200",
		about:   "the same beside 200 agents, each with a connection and a watch on the whole namespace",
		against: "etcd without watches",
		figures: []figure{{name: "puts", unit: "/s"}, {name: "etcd CPU a put, delivered", unit: "µs"}},
		start: func(ctx context.Context, s *stage) (pair, error) {
			return startInterest(ctx, s, s.size(200, 20), wholeNamespace)
		},
	}}
}

// watchers are agents that only watch, and count the events.
type watchers struct{ events atomic.Int64 }

// watch starts agents that watch their ranges until the row ends, with a stream each, on so
// many connections to an etcd. It returns when etcd has created all watches.
func (s *stage) watch(ctx context.Context, client *clientv3.Client, connections, agents int, ranges func(int) []string) (*watchers, error) {
	w := &watchers{}
	var taken atomic.Int64
	asked := int64(0)
	running, ctx := errgroup.WithContext(ctx)
	var all []*receiver
	s.onClose(func() {
		for _, r := range all {
			r.close()
		}
		running.Wait() // their errors are the closed connections
	})
	of := make([][][]string, connections) // by connection: the prefixes of its agents
	for n := range agents {
		of[n%connections] = append(of[n%connections], ranges(n))
		asked += int64(len(ranges(n)))
	}
	for _, on := range of {
		r, err := dialReceiver(ctx, client.Endpoints()[0], on)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
		running.Go(func() error {
			return r.run(func(n int) { taken.Add(int64(n)) }, func(n int) { w.events.Add(int64(n)) })
		})
	}
	return w, await(ctx, func() error {
		if got := taken.Load(); got < asked {
			return fmt.Errorf("etcd has created %d of %d watches within %v", got, asked, waitTimeout)
		}
		return nil
	})
}

// servicesOf returns the prefixes of the services that an agent watches.
func servicesOf(agent int) []string {
	var all []string
	for n := range servicesPerAgent {
		all = append(all, discovery.NewKeys("default").Service(serviceName((agent*servicesPerAgent+n)%interestServices)))
	}
	return all
}

// wholeNamespace returns the prefix of all services, whatever the agent.
func wholeNamespace(int) []string {
	return []string{discovery.NewKeys("default").Services()}
}

// awaitEvents waits until so many events have been received in all.
func (w *watchers) awaitEvents(ctx context.Context, events int64) error {
	return await(ctx, func() error {
		if got := w.events.Load(); got < events {
			return fmt.Errorf("received %d of %d events within %v", got, events, waitTimeout)
		}
		return nil
	})
}

// startInterest starts two etcds, and agents that watch one of them.
func startInterest(ctx context.Context, s *stage, agents int, ranges func(int) []string) (pair, error) {
	quietEtcd, quiet, err := s.etcd()
	if err != nil {
		return pair{}, err
	}
	busyEtcd, busy, err := s.etcd()
	if err != nil {
		return pair{}, err
	}
	w, err := s.watch(ctx, busy, agents, agents, ranges)
	if err != nil {
		return pair{}, err
	}
	each := agents // the watchers of a service
	if len(ranges(0)) > 1 {
		each = agents * servicesPerAgent / interestServices
	}
	nobody := &watchers{}
	return pair{
		disc:  func(ctx context.Context) ([]float64, error) { return s.putRate(ctx, busyEtcd, busy, w, each) },
		other: func(ctx context.Context) ([]float64, error) { return s.putRate(ctx, quietEtcd, quiet, nobody, 0) },
	}, nil
}

// putRate returns the puts a second that etcd applies while so many agents watch each service,
// and etcd's CPU time for a put and the delivery of its events, in microseconds.
func (s *stage) putRate(ctx context.Context, etcd *process, client *clientv3.Client, w *watchers, each int) ([]float64, error) {
	return measureCPU(etcd.pid(), func() (load, error) {
		before, start := w.events.Load(), time.Now()
		puts, err := putAll(ctx, client, s.window)
		if err != nil {
			return load{}, err
		}
		l := load{rate: float64(puts) / time.Since(start).Seconds(), requests: float64(puts)}
		return l, w.awaitEvents(ctx, before+int64(puts*each))
	})
}

// putAll puts an instance of every service, again and again for d, at least once. It returns the
// number of puts.
func putAll(ctx context.Context, client *clientv3.Client, d time.Duration) (int, error) {
	keys := discovery.NewKeys("default")
	puts, start := 0, time.Now()
	for puts == 0 || time.Since(start) < d {
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(writers)
		for n := range interestServices {
			group.Go(func() error {
				i := instance(serviceName(n), n)
				_, err := client.Put(ctx, keys.Instance(i.Service, i.ID), string(i.Encode()))
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return 0, err
		}
		puts += interestServices
	}
	return puts, nil
}
