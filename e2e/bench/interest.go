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
			return startInterest(ctx, s, s.size(10_000, 20), servicesOf, 0)
		},
	}, proxyRow(1000), proxyRow(10_000), {
		name:    "all-200",
		about:   "the same beside 200 agents, each with a connection and a watch on the whole namespace",
		against: "etcd without watches",
		figures: []figure{{name: "puts", unit: "/s"}, {name: "etcd CPU a put, delivered", unit: "µs"}},
		start: func(ctx context.Context, s *stage) (pair, error) {
			return startInterest(ctx, s, s.size(200, 20), wholeNamespace, 0)
		},
	}}
}

// proxies is the number of grpc-proxies between etcd and the agents of proxyRow.
const proxies = 2

// proxyRow is lazy-10000 with a number of agents, half of them behind each of two proxies. Each service
// is put once, and then the agents must have all events: proxies on etcd's own cores fall behind otherwise,
// and etcd looks for what they miss.
func proxyRow(agents int) row {
	return row{
		name:    fmt.Sprintf("proxy-%d", agents),
		about:   fmt.Sprintf("puts a second, each delivered to %d agents with watches on %d of %d services, behind %d of etcd's grpc-proxies", agents, servicesPerAgent, interestServices, proxies),
		against: "etcd without watches",
		figures: []figure{{name: "puts", unit: "/s"}, {name: "etcd CPU a put, delivered", unit: "µs", bound: atMost(1.5)}},
		start: func(ctx context.Context, s *stage) (pair, error) {
			return startInterest(ctx, s, s.size(agents, 200), servicesOf, proxies)
		},
	}
}

// watchers are agents that only watch, and count the events.
type watchers struct {
	events atomic.Int64
	lost   atomic.Int64 // agents whose stream a proxy has ended
}

// mostLost is the share of the agents whose stream may end, in percent. A proxy ends one at random
// when it has no core for 50 ms. An agent then watches anew; these agents do not.
const mostLost = 1

// watch starts agents that watch their ranges until the row ends, with a stream each, on so
// many connections to the endpoints of an etcd. It returns when etcd has created all watches. They
// begin at a revision; 0: at the newest.
func (s *stage) watch(ctx context.Context, endpoints []string, revision int64, connections, agents int, ranges func(int) []string) (*watchers, error) {
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
	for n, on := range of {
		r, err := dialReceiver(ctx, endpoints[n%len(endpoints)], on, revision)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
		running.Go(func() error {
			err := r.run(func(n int) { taken.Add(int64(n)) }, func(n int) { w.events.Add(int64(n)) })
			if revision == 0 || w.lost.Add(1) > int64(agents*mostLost/100) {
				return err
			}
			return nil
		})
	}
	return w, await(ctx, func() error {
		if got := taken.Load(); got < asked-asked/int64(agents)*w.lost.Load() {
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

// awaitEvents waits for the events of puts, each to so many watchers, since there were before. Agents
// that are lost receive none: in as many puts as there are services, each misses one of its own.
func (w *watchers) awaitEvents(ctx context.Context, before int64, puts, each int) error {
	return await(ctx, func() error {
		least := int64(puts*each) - w.lost.Load()*int64(puts/interestServices*servicesPerAgent)
		if got := w.events.Load() - before; got < least {
			return fmt.Errorf("received %d of %d events within %v", got, least, waitTimeout)
		}
		return nil
	})
}

// startInterest starts two etcds, and agents that watch one of them, through so many proxies.
func startInterest(ctx context.Context, s *stage, agents int, ranges func(int) []string, proxies int) (pair, error) {
	quietEtcd, quiet, err := s.etcd()
	if err != nil {
		return pair{}, err
	}
	busyEtcd, busy, err := s.etcd()
	if err != nil {
		return pair{}, err
	}
	endpoints, revision, err := s.proxies(ctx, busy, proxies)
	if err != nil {
		return pair{}, err
	}
	w, err := s.watch(ctx, endpoints, revision, agents, agents, ranges)
	if err != nil {
		return pair{}, err
	}
	each := agents // the watchers of a service
	if len(ranges(0)) > 1 {
		each = agents * servicesPerAgent / interestServices
	}
	nobody := &watchers{}
	return pair{
		disc: func(ctx context.Context) ([]float64, error) {
			return s.putRate(ctx, busyEtcd, busy, w, each, proxies > 0)
		},
		other: func(ctx context.Context) ([]float64, error) {
			return s.putRate(ctx, quietEtcd, quiet, nobody, 0, false)
		},
	}, nil
}

// proxies starts grpc-proxies in front of an etcd, and returns their endpoints, and the revision from
// which to watch, as an agent does after a list: a proxy gives one watch to those who begin so. For
// none they are etcd's own, and 0.
func (s *stage) proxies(ctx context.Context, client *clientv3.Client, n int) (endpoints []string, revision int64, err error) {
	if n == 0 {
		return client.Endpoints()[:1], 0, nil
	}
	for range n {
		_, endpoint, err := s.start("grpcproxy", nil, client.Endpoints()[0])
		if err != nil {
			return nil, 0, err
		}
		endpoints = append(endpoints, endpoint)
	}
	r, err := client.Get(ctx, "now")
	if err != nil {
		return nil, 0, err
	}
	return endpoints, r.Header.Revision, nil
}

// putRate returns the puts a second that etcd applies while so many agents watch each service,
// and etcd's CPU time for a put and the delivery of its events, in microseconds. It puts an instance of
// every service, again and again, at least once, and with paced waits for the events each time.
func (s *stage) putRate(ctx context.Context, etcd *process, client *clientv3.Client, w *watchers, each int, paced bool) ([]float64, error) {
	return measureCPU(etcd.pid(), func() (load, error) {
		puts, before, start := 0, w.events.Load(), time.Now()
		for puts == 0 || time.Since(start) < s.window {
			sent := w.events.Load()
			if err := putAll(ctx, client); err != nil {
				return load{}, err
			}
			puts += interestServices
			if paced {
				if err := w.awaitEvents(ctx, sent, interestServices, each); err != nil {
					return load{}, err
				}
			}
		}
		l := load{rate: float64(puts) / time.Since(start).Seconds(), requests: float64(puts)}
		return l, w.awaitEvents(ctx, before, puts, each)
	})
}

// putAll puts an instance of every service.
func putAll(ctx context.Context, client *clientv3.Client) error {
	keys := discovery.NewKeys("default")
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	for n := range interestServices {
		group.Go(func() error {
			i := instance(serviceName(n), n)
			_, err := client.Put(ctx, keys.Instance(i.Service, i.ID), string(i.Encode()))
			return err
		})
	}
	return group.Wait()
}
