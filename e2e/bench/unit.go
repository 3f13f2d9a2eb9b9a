package main

import (
	"context"
	"fmt"
	"math"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/etcd"
)

// unitRows measure what each operation of an agent costs etcd. SCALE.md adds the costs up.
func unitRows() []row {
	return []row{{
		name:    "unit-keepalive",
		about:   "etcd's CPU time for one keepalive",
		against: "one put",
		figures: []figure{{name: "CPU", unit: "µs"}},
		start:   startUnitKeepalive,
	}, {
		name:    "unit-event",
		about:   "etcd's CPU time for sending one event to one of 100 watchers, a connection each",
		against: "one put",
		figures: []figure{{name: "CPU", unit: "µs"}},
		start:   startUnitEvent,
	}, {
		name:    "unit-ask",
		about:   "etcd's CPU time for confirming that one agent's view is current: a read and a progress request",
		against: "one put",
		figures: []figure{{name: "CPU", unit: "µs"}},
		start:   startUnitAsk,
	}, {
		name:    "unit-watch",
		about:   fmt.Sprintf("etcd's memory for an agent: a connection, a stream and %d watches", servicesPerAgent),
		against: "a stream on a shared connection",
		figures: []figure{{name: "memory", unit: "KiB"}},
		start:   startUnitWatch,
	}}
}

func startUnitKeepalive(_ context.Context, s *stage) (pair, error) {
	etcd, client, err := s.etcd()
	if err != nil {
		return pair{}, err
	}
	return s.againstPut(etcd, client, func() func(context.Context, int) error { return keepaliveLoop(client) }), nil
}

func startUnitAsk(ctx context.Context, s *stage) (pair, error) {
	etcd, client, err := s.etcd()
	if err != nil {
		return pair{}, err
	}
	agents, err := s.connections(ctx, client, s.size(100, 5))
	if err != nil {
		return pair{}, err
	}
	return s.againstPut(etcd, client, func() func(context.Context, int) error { return freshnessLoop(agents) }), nil
}

// againstPut compares the CPU time that one call of a loop costs etcd with that of a put.
func (s *stage) againstPut(etcd *process, client *clientv3.Client, loop func() func(context.Context, int) error) pair {
	side := func(loop func() func(context.Context, int) error) side {
		return func(ctx context.Context) ([]float64, error) {
			cost, err := s.unitCost(ctx, etcd, loop())
			return []float64{micros(cost)}, err
		}
	}
	return pair{side(loop), side(func() func(context.Context, int) error { return putLoop(client) })}
}

// connections returns n clients of an etcd, which connect as an agent does.
func (s *stage) connections(ctx context.Context, client *clientv3.Client, n int) ([]*clientv3.Client, error) {
	var all []*clientv3.Client
	for range n {
		c, err := etcd.Dial(ctx, etcd.Config{Endpoints: client.Endpoints()})
		if err != nil {
			return nil, err
		}
		s.onClose(func() { c.Close() })
		all = append(all, c)
	}
	return all, nil
}

// freshnessLoop confirms for one agent after the other that its view is current, as agents do:
// it reads the newest revision, and requests the progress of the watch.
func freshnessLoop(agents []*clientv3.Client) func(context.Context, int) error {
	epoch := discovery.NewKeys("default").Epoch()
	watches := make([]pb.Watch_WatchClient, len(agents))
	return func(ctx context.Context, n int) (err error) {
		n %= len(agents)
		if watches[n] == nil {
			if watches[n], err = pb.NewWatchClient(agents[n].ActiveConnection()).Watch(ctx); err != nil {
				return err
			}
			create := &pb.WatchCreateRequest{Key: []byte(epoch)}
			if err := exchange(watches[n], &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}); err != nil {
				return err
			}
		}
		if _, err := agents[n].Get(ctx, epoch); err != nil {
			return err
		}
		progress := &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}
		return exchange(watches[n], &pb.WatchRequest{RequestUnion: progress})
	}
}

// exchange sends a request over a stream and reads one answer.
func exchange(stream pb.Watch_WatchClient, r *pb.WatchRequest) error {
	if err := stream.Send(r); err != nil {
		return err
	}
	_, err := stream.Recv()
	return err
}

// putLoop puts one of ten instances.
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
	if _, err := s.watch(ctx, busy.Endpoints(), 0, watchers, watchers, wholeNamespace); err != nil {
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

// startUnitWatch measures the growth of etcd's memory.
func startUnitWatch(ctx context.Context, s *stage) (pair, error) {
	agents := s.size(1000, 10)
	side := func(connections int, ranges func(int) []string) side {
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
			if _, err := s.watch(ctx, client.Endpoints(), 0, connections, agents, ranges); err != nil {
				return nil, err
			}
			after, err := memory(etcd.pid(), resident)
			return []float64{math.Max(after-before, 0) * 1024 / float64(agents)}, err
		}
	}
	return pair{side(agents, servicesOf), side(fleetConnections, wholeNamespace)}, nil
}
