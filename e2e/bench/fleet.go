package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"disc/discovery"
)

// A fleet's doings: each agent keeps a lease alive, and the fleet changes so often.
const (
	fleetTTL         = 15 * time.Second
	fleetKeepalive   = fleetTTL / 3
	fleetChanges     = 200  // a second
	fleetConnections = 20   // on which the agents' streams are
	fleetWindow      = 12.0 // seconds a round: five of them are a minute
)

func fleetRows() []row {
	return []row{{
		name:    "fleet",
		about:   fmt.Sprintf("the keepalives of 10000 agents, a stream each, and %d changes a second, beside one agent that sees all of it", fleetChanges),
		against: "computed minimum",
		figures: []figure{{name: "etcd CPU", unit: "%"}, {name: "etcd memory", unit: "MiB"}, {name: "agent CPU", unit: "%"}, {name: "agent memory", unit: "MiB"}},
		start:   startFleet,
	}}
}

// startFleet holds etcd's CPU time against the measured ones of so many bare
// keepalives and puts, its memory against the bytes of the records, and an agent
// against a process that has nothing but a watch.
func startFleet(ctx context.Context, s *stage) (pair, error) {
	agents, window := s.size(10_000, 50), time.Duration(fleetWindow*float64(time.Second))
	if s.quick {
		window = s.window
	}
	etcd, client, err := s.etcd()
	if err != nil {
		return pair{}, err
	}
	endpoint := client.Endpoints()[0]
	fleet, _, err := s.start("fleet", nil, endpoint, strconv.Itoa(agents))
	if err != nil {
		return pair{}, err
	}
	bare, _, err := s.start("watch", nil, endpoint)
	if err != nil {
		return pair{}, err
	}
	a, err := s.agent(endpoint, "bench")
	if err != nil {
		return pair{}, err
	}
	if err := await(ctx, func() error { _, err := fetch(a.http, lookupPath); return err }); err != nil {
		return pair{}, err
	}
	var watchCPU, watchMemory float64 // of the same window as the agent's
	return pair{
		disc: func(ctx context.Context) ([]float64, error) {
			used, err := cpuShares(ctx, window, etcd, a.process, bare)
			if err != nil {
				return nil, err
			}
			watchCPU = used[2]
			var mib [3]float64
			for n, p := range []*process{etcd, a.process, bare} {
				if mib[n], err = memory(p.pid(), resident); err != nil {
					return nil, err
				}
			}
			watchMemory = mib[2]
			return []float64{used[0], mib[0], used[1], mib[1]}, nil
		},
		other: func(ctx context.Context) ([]float64, error) {
			if watchMemory == 0 { // this side is first
				used, err := cpuShares(ctx, window, bare)
				if err != nil {
					return nil, err
				}
				watchCPU = used[0]
				if watchMemory, err = memory(bare.pid(), resident); err != nil {
					return nil, err
				}
			}
			// The fleet stands still while the cost of one is measured; its leases
			// live longer than that.
			if err := fleet.command.Process.Signal(syscall.SIGSTOP); err != nil {
				return nil, err
			}
			defer fleet.command.Process.Signal(syscall.SIGCONT)
			least, err := minimumCPU(ctx, s, etcd, client, agents)
			records := float64(agents*len(instance("web", 0).Encode())) / (1 << 20)
			return []float64{least, records, watchCPU, watchMemory}, err
		},
	}, nil
}

// cpuShares returns what part of a core processes use in a window, in percent.
func cpuShares(ctx context.Context, window time.Duration, processes ...*process) ([]float64, error) {
	before, start := make([]time.Duration, len(processes)), time.Now()
	var err error
	for n, p := range processes {
		if before[n], err = cpuTime(p.pid()); err != nil {
			return nil, err
		}
	}
	if err := sleep(ctx, window); err != nil {
		return nil, err
	}
	var used []float64
	for n, p := range processes {
		after, err := cpuTime(p.pid())
		if err != nil {
			return nil, err
		}
		used = append(used, 100*(after-before[n]).Seconds()/time.Since(start).Seconds())
	}
	return used, nil
}

// minimumCPU computes what part of a core etcd needs for a fleet, in percent, from what
// one bare keepalive and one bare put cost it.
func minimumCPU(ctx context.Context, s *stage, etcd *process, client *clientv3.Client, agents int) (float64, error) {
	keepalive, err := s.unitCost(ctx, etcd, keepaliveLoop(client))
	if err != nil {
		return 0, err
	}
	put, err := s.unitCost(ctx, etcd, putLoop(client))
	keepalives := float64(agents) / fleetKeepalive.Seconds()
	return 100 * (keepalives*keepalive.Seconds() + fleetChanges*put.Seconds()), err
}

// keepaliveLoop sends keepalives of one lease over one stream, one after the other.
func keepaliveLoop(client *clientv3.Client) func(context.Context, int) error {
	var lease *clientv3.LeaseGrantResponse
	var stream pb.Lease_LeaseKeepAliveClient
	return func(ctx context.Context, _ int) (err error) {
		if stream == nil {
			if lease, err = client.Grant(ctx, 60); err != nil {
				return err
			}
			if stream, err = pb.NewLeaseClient(client.ActiveConnection()).LeaseKeepAlive(ctx); err != nil {
				return err
			}
		}
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(lease.ID)}); err != nil {
			return err
		}
		_, err = stream.Recv()
		return err
	}
}

// unitCost does one thing after the other for a window, and returns the CPU time of
// etcd for each.
func (s *stage) unitCost(ctx context.Context, etcd *process, do func(context.Context, int) error) (time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	before, err := cpuTime(etcd.pid())
	if err != nil {
		return 0, err
	}
	n := 0
	for start := time.Now(); time.Since(start) < s.window; n++ {
		if err := do(ctx, n); err != nil {
			return 0, err
		}
	}
	after, err := cpuTime(etcd.pid())
	return (after - before) / time.Duration(n), err
}

// runFleet is so many agents at the etcd of its first argument: leases with an
// instance each that are kept alive, and changes.
func runFleet(ctx context.Context, args []string, _ io.Reader, out io.Writer) error {
	agents, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	var clients []*clientv3.Client
	for range fleetConnections {
		c, err := connect(args[0])
		if err != nil {
			return err
		}
		defer c.Close()
		clients = append(clients, c)
	}
	leases, err := registerFleet(ctx, clients, agents)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for n, lease := range leases {
		group.Go(func() error {
			first := fleetKeepalive * time.Duration(n) / time.Duration(agents)
			return keepAlive(ctx, clients[n%len(clients)], lease, first)
		})
	}
	group.Go(func() error { return changeInstances(ctx, clients[0], leases) })
	fmt.Fprintln(out, ready+args[0])
	if err := group.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// registerFleet puts an instance for each agent under a lease of its own.
func registerFleet(ctx context.Context, clients []*clientv3.Client, agents int) ([]clientv3.LeaseID, error) {
	leases := make([]clientv3.LeaseID, agents)
	keys := discovery.NewKeys("default")
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(64)
	for n := range agents {
		group.Go(func() error {
			client := clients[n%len(clients)]
			granted, err := client.Grant(ctx, int64((4 * fleetTTL).Seconds())) // until its first keepalive, all others' grants may lie between
			if err != nil {
				return err
			}
			leases[n] = granted.ID
			i := instance(serviceName(n/10), n)
			_, err = client.Put(ctx, keys.Instance(i.Service, i.ID), string(i.Encode()), clientv3.WithLease(granted.ID))
			return err
		})
	}
	return leases, group.Wait()
}

// keepAlive keeps a lease alive on a stream of its own.
func keepAlive(ctx context.Context, client *clientv3.Client, lease clientv3.LeaseID, first time.Duration) error {
	stream, err := pb.NewLeaseClient(client.ActiveConnection()).LeaseKeepAlive(ctx)
	if err != nil {
		return err
	}
	for wait := first; ; wait = fleetKeepalive {
		if err := sleep(ctx, wait); err != nil {
			return err
		}
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(lease)}); err != nil {
			return err
		}
		if _, err := stream.Recv(); err != nil {
			return err
		}
	}
}

// changeInstances rewrites one instance after the other.
func changeInstances(ctx context.Context, client *clientv3.Client, leases []clientv3.LeaseID) error {
	keys := discovery.NewKeys("default")
	next := time.NewTicker(time.Second / fleetChanges)
	defer next.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-next.C:
		}
		at := n % len(leases)
		i := instance(serviceName(at/10), at)
		i.Weight = n % 100
		if _, err := client.Put(ctx, keys.Instance(i.Service, i.ID), string(i.Encode()), clientv3.WithLease(leases[at])); err != nil {
			return err
		}
	}
}

// runWatch has nothing but a watch of the fleet at the etcd of its first argument.
func runWatch(ctx context.Context, args []string, _ io.Reader, out io.Writer) error {
	client, err := connect(args[0])
	if err != nil {
		return err
	}
	defer client.Close()
	fmt.Fprintln(out, ready+args[0])
	for events := range client.Watch(ctx, discovery.NewKeys("default").Prefix(), clientv3.WithPrefix()) {
		if err := events.Err(); err != nil {
			return err
		}
	}
	return nil
}
