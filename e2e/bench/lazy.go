package main

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"disc/discovery"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
)

// Watches by interest: each agent watches so many of the fleet's services.
const (
	lazyServices = 1000
	lazyEach     = 5
	writers      = 32 // puts under way at once
)

func watchRows() []row {
	return []row{{
		name:    "lazy-10000",
		about:   fmt.Sprintf("puts a second beside 10000 agents with a raw watch on each of %d of %d services; the agents share the cores with etcd", lazyEach, lazyServices),
		against: "etcd without watches",
		figures: []figure{{"puts", "/s", atLeast(0.5)}, {"etcd CPU a put, delivered", "µs", bound{}}},
		start: func(ctx context.Context, s *stage) (pair, error) {
			return startWatched(ctx, s, s.few(10_000, 20), (*watched).services)
		},
	}, {
		name:    "all-200",
		about:   "the same beside 200 agents with a raw watch on the whole namespace",
		against: "etcd without watches",
		figures: []figure{{"puts", "/s", bound{}}, {"etcd CPU a put, delivered", "µs", bound{}}},
		start: func(ctx context.Context, s *stage) (pair, error) {
			return startWatched(ctx, s, s.few(200, 20), (*watched).namespace)
		},
	}, {
		name:    "unit-keepalive",
		about:   "etcd's CPU time for one keepalive",
		against: "one put",
		figures: []figure{{"CPU", "µs", bound{}}},
		start:   startUnitKeepalive,
	}, {
		name:    "unit-event",
		about:   "etcd's CPU time for one event to one of 100 watchers",
		against: "one put",
		figures: []figure{{"CPU", "µs", bound{}}},
		start:   startUnitEvent,
	}, {
		name:    "unit-watch",
		about:   fmt.Sprintf("etcd's memory for an agent: a connection, a stream and %d watches", lazyEach),
		against: "a stream on a shared connection",
		figures: []figure{{"memory", "KiB", bound{}}},
		start:   startUnitWatch,
	}}
}

// watched are agents that have nothing but their watches, and count the events.
type watched struct {
	clients []*clientv3.Client
	events  atomic.Int64
	running *errgroup.Group
}

// watch starts the agents on the connections of some clients, with a stream for each,
// until the row ends. It returns when etcd has all their watches.
func (s *stage) watch(ctx context.Context, clients []*clientv3.Client, agents int, ranges func(*watched, int) []string) (*watched, error) {
	ctx, cancel := context.WithCancel(ctx)
	w := &watched{clients: clients}
	w.running, ctx = errgroup.WithContext(ctx)
	s.onClose(func() {
		cancel()
		w.running.Wait() // they end because they are told to
	})
	created, starting := make(chan struct{}), 0
	for n := range agents {
		watcher := clientv3.NewWatcher(clients[n%len(clients)]) // a stream of its own
		s.onClose(func() { watcher.Close() })
		for _, prefix := range ranges(w, n) {
			starting++
			w.running.Go(func() error { return w.follow(ctx, watcher, prefix, created) })
		}
	}
	late := time.After(patience)
	for range starting {
		select {
		case <-created:
		case <-late:
			return nil, fmt.Errorf("etcd has not taken %d watches within %v", starting, patience)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return w, nil
}

func (w *watched) follow(ctx context.Context, watcher clientv3.Watcher, prefix string, created chan<- struct{}) error {
	for events := range watcher.Watch(clientv3.WithRequireLeader(ctx), prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify()) {
		switch {
		case events.Err() != nil:
			return events.Err()
		case events.Created:
			select {
			case created <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		w.events.Add(int64(len(events.Events)))
	}
	return ctx.Err()
}

// services are the prefixes of the services that an agent is interested in.
func (w *watched) services(agent int) []string {
	var all []string
	for n := range lazyEach {
		all = append(all, discovery.NewKeys("default").Service(serviceName((agent*lazyEach+n)%lazyServices)))
	}
	return all
}

// namespace is the prefix of all services.
func (w *watched) namespace(int) []string {
	return []string{discovery.NewKeys("default").Services()}
}

// receive waits until so many events have been received.
func (w *watched) receive(ctx context.Context, events int64) error {
	return await(ctx, func() error {
		if got := w.events.Load(); got < events {
			return fmt.Errorf("%d of %d events came within %v", got, events, patience)
		}
		return nil
	})
}

// connections returns more clients of an etcd, for streams to be spread over.
func (s *stage) connections(client *clientv3.Client, n int) ([]*clientv3.Client, error) {
	var all []*clientv3.Client
	for range n {
		c, err := connect(client.Endpoints()[0])
		if err != nil {
			return nil, err
		}
		s.onClose(func() { c.Close() })
		all = append(all, c)
	}
	return all, nil
}

// startWatched has two etcds, one of which is watched.
func startWatched(ctx context.Context, s *stage, agents int, ranges func(*watched, int) []string) (pair, error) {
	quietEtcd, quiet, err := s.etcd()
	if err != nil {
		return pair{}, err
	}
	busyEtcd, busy, err := s.etcd()
	if err != nil {
		return pair{}, err
	}
	clients, err := s.connections(busy, fleetConnections)
	if err != nil {
		return pair{}, err
	}
	w, err := s.watch(ctx, clients, agents, ranges)
	if err != nil {
		return pair{}, err
	}
	each := agents // that watch a service
	if len(ranges(w, 0)) > 1 {
		each = agents * lazyEach / lazyServices
	}
	nobody := &watched{}
	return pair{
		disc:  func(ctx context.Context) ([]float64, error) { return s.putRate(ctx, busyEtcd, busy, w, each) },
		other: func(ctx context.Context) ([]float64, error) { return s.putRate(ctx, quietEtcd, quiet, nobody, 0) },
	}, nil
}

// putRate returns how many puts a second etcd takes while so many agents watch each
// service, and the CPU time of etcd for each with all that is delivered of it.
func (s *stage) putRate(ctx context.Context, etcd *process, client *clientv3.Client, w *watched, each int) ([]float64, error) {
	return costed(etcd.pid(), func() (load, error) {
		before, start := w.events.Load(), time.Now()
		puts, err := putAll(ctx, client, s.window)
		if err != nil {
			return load{}, err
		}
		l := load{rate: float64(puts) / time.Since(start).Seconds(), requests: float64(puts)}
		return l, w.receive(ctx, before+int64(puts*each))
	})
}

// putAll puts an instance of one service after the other for a window, all services
// as often as each other, and returns how many puts that were.
func putAll(ctx context.Context, client *clientv3.Client, d time.Duration) (int, error) {
	keys := discovery.NewKeys("default")
	puts, start := 0, time.Now()
	for time.Since(start) < d {
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(writers)
		for n := range lazyServices {
			group.Go(func() error {
				i := instance(serviceName(n), n)
				_, err := client.Put(ctx, keys.Instance(i.Service, i.ID), string(i.Encode()))
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return 0, err
		}
		puts += lazyServices
	}
	return puts, nil
}

func startUnitKeepalive(ctx context.Context, s *stage) (pair, error) {
	etcd, client, err := s.etcd()
	if err != nil {
		return pair{}, err
	}
	side := func(loop func() func(context.Context, int) error) side {
		return func(ctx context.Context) ([]float64, error) {
			cost, err := s.unitCost(ctx, etcd, loop())
			return []float64{micros(cost)}, err
		}
	}
	return pair{
		side(func() func(context.Context, int) error { return keepaliveLoop(client) }),
		side(func() func(context.Context, int) error { return putLoop(client) }),
	}, nil
}

// putLoop puts an instance again and again.
func putLoop(client *clientv3.Client) func(context.Context, int) error {
	return func(ctx context.Context, n int) error {
		i := instance("web", n%10)
		_, err := client.Put(ctx, discovery.NewKeys("default").Instance(i.Service, i.ID), string(i.Encode()))
		return err
	}
}

func startUnitEvent(ctx context.Context, s *stage) (pair, error) {
	const watchers = 100
	quietEtcd, quiet, err := s.etcd()
	if err != nil {
		return pair{}, err
	}
	busyEtcd, busy, err := s.etcd()
	if err != nil {
		return pair{}, err
	}
	clients, err := s.connections(busy, fleetConnections)
	if err != nil {
		return pair{}, err
	}
	if _, err := s.watch(ctx, clients, watchers, (*watched).namespace); err != nil {
		return pair{}, err
	}
	put := func(ctx context.Context) (time.Duration, error) { return s.unitCost(ctx, quietEtcd, putLoop(quiet)) }
	return pair{
		disc: func(ctx context.Context) ([]float64, error) {
			alone, err := put(ctx)
			if err != nil {
				return nil, err
			}
			all, err := s.unitCost(ctx, busyEtcd, putLoop(busy))
			return []float64{micros(all-alone) / watchers}, err
		},
		other: func(ctx context.Context) ([]float64, error) {
			alone, err := put(ctx)
			return []float64{micros(alone)}, err
		},
	}, nil
}

// startUnitWatch measures what etcd's memory grows by.
func startUnitWatch(ctx context.Context, s *stage) (pair, error) {
	agents := s.few(1000, 10)
	side := func(connections int, ranges func(*watched, int) []string) side {
		return func(ctx context.Context) ([]float64, error) {
			etcd, client, err := s.etcd()
			if err != nil {
				return nil, err
			}
			defer etcd.kill()
			before, err := memory(etcd.pid(), resident)
			if err != nil {
				return nil, err
			}
			clients, err := s.connections(client, connections)
			if err != nil {
				return nil, err
			}
			if _, err := s.watch(ctx, clients, agents, ranges); err != nil {
				return nil, err
			}
			after, err := memory(etcd.pid(), resident)
			return []float64{math.Max(after-before, 0) * 1024 / float64(agents)}, err
		}
	}
	return pair{side(agents, (*watched).services), side(fleetConnections, (*watched).namespace)}, nil
}
