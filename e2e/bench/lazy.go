package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"disc/discovery"
	"disc/discovery/etcd"

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
		about:   fmt.Sprintf("puts a second beside 10000 agents with a connection and a raw watch on each of %d of %d services; they share the cores with etcd", lazyEach, lazyServices),
		against: "etcd without watches",
		figures: []figure{{"puts", "/s", atLeast(0.5)}, {"etcd CPU a put, delivered", "µs", bound{}}},
		start: func(ctx context.Context, s *stage) (pair, error) {
			return startWatched(ctx, s, s.few(10_000, 20), (*watched).services)
		},
	}, {
		name:    "all-200",
		about:   "the same beside 200 agents with a connection and a raw watch on the whole namespace",
		against: "etcd without watches",
		figures: []figure{{"puts", "/s", bound{}}, {"etcd CPU a put, delivered", "µs", bound{}}},
		start: func(ctx context.Context, s *stage) (pair, error) {
			return startWatched(ctx, s, s.few(200, 20), (*watched).namespace)
		},
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

// connections returns more clients of an etcd, which connect as an agent does.
func (s *stage) connections(client *clientv3.Client, n int) ([]*clientv3.Client, error) {
	var all []*clientv3.Client
	for range n {
		c, err := etcd.Dial(etcd.Config{Endpoints: client.Endpoints()})
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
	clients, err := s.connections(busy, agents)
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
