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

// The load of a fleet: the keepalives of each agent's lease, and changes of instances.
const (
	fleetTTL         = 15 * time.Second
	fleetKeepalive   = fleetTTL / 3
	fleetChanges     = 200              // a second
	fleetConnections = 20               // shared by the agents' streams
	fleetWindow      = 12 * time.Second // of a round: five rounds are a minute
)

func fleetRows() []row {
	return []row{{
		name:    "fleet",
		about:   fmt.Sprintf("keepalives of 10000 agents, a stream each, and %d changes a second, beside one agent that sees every change", fleetChanges),
		against: "computed minimum",
		figures: []figure{{name: "etcd CPU", unit: "%"}, {name: "etcd memory", unit: "MiB"}, {name: "agent CPU", unit: "%"}, {name: "agent memory", unit: "MiB"}},
		start:   startFleet,
	}}
}

// fleetStage is the running processes of the fleet row.
type fleetStage struct {
	*stage
	etcd, agents, bareWatch, agent *process

	client     *clientv3.Client
	agentCount int
	window     time.Duration

	watchCPU, watchMemory float64 // of bareWatch; 0: not measured yet
}

// startFleet compares etcd's CPU time with the cost of the same number of bare keepalives and
// puts, its memory with the bytes of the records, and an agent with a process that only
// watches.
func startFleet(ctx context.Context, s *stage) (pair, error) {
	f := &fleetStage{stage: s, agentCount: s.size(10_000, 50), window: fleetWindow}
	if s.quick {
		f.window = s.window
	}
	var err error
	if f.etcd, f.client, err = s.etcd(); err != nil {
		return pair{}, err
	}
	endpoint := f.client.Endpoints()[0]
	if f.agents, _, err = s.start("fleet", nil, endpoint, strconv.Itoa(f.agentCount)); err != nil {
		return pair{}, err
	}
	if f.bareWatch, _, err = s.start("watch", nil, endpoint); err != nil {
		return pair{}, err
	}
	a, err := s.agent(endpoint, "bench")
	if err != nil {
		return pair{}, err
	}
	f.agent = a.process
	return pair{f.measure, f.measureMinimum}, await(ctx, func() error { _, err := fetch(a.http, lookupPath); return err })
}

// measure measures etcd and the agent, and the bare watch in the same window.
func (f *fleetStage) measure(ctx context.Context) ([]float64, error) {
	used, err := cpuShares(ctx, f.window, f.etcd, f.agent, f.bareWatch)
	if err != nil {
		return nil, err
	}
	var mib [3]float64
	for n, p := range []*process{f.etcd, f.agent, f.bareWatch} {
		if mib[n], err = memory(p.pid(), resident); err != nil {
			return nil, err
		}
	}
	f.watchCPU, f.watchMemory = used[2], mib[2]
	return []float64{used[0], mib[0], used[1], mib[1]}, nil
}

// measureMinimum returns the computed minimum of etcd, and the latest figures of the bare
// watch.
func (f *fleetStage) measureMinimum(ctx context.Context) ([]float64, error) {
	if f.watchMemory == 0 {
		used, err := cpuShares(ctx, f.window, f.bareWatch)
		if err != nil {
			return nil, err
		}
		f.watchCPU = used[0]
		if f.watchMemory, err = memory(f.bareWatch.pid(), resident); err != nil {
			return nil, err
		}
	}
	// The fleet is stopped while the cost of one operation is measured. Its leases outlast
	// this pause.
	if err := f.agents.command.Process.Signal(syscall.SIGSTOP); err != nil {
		return nil, err
	}
	defer f.agents.command.Process.Signal(syscall.SIGCONT)
	least, err := minimumCPU(ctx, f.stage, f.etcd, f.client, f.agentCount)
	records := float64(f.agentCount*len(instance("web", 0).Encode())) / (1 << 20)
	return []float64{least, records, f.watchCPU, f.watchMemory}, err
}

// cpuShares returns the share of a core that each process uses in a window, in percent.
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

// minimumCPU computes the share of a core that etcd needs for a fleet, in percent, from the
// measured cost of one keepalive and one put.
func minimumCPU(ctx context.Context, s *stage, etcd *process, client *clientv3.Client, agents int) (float64, error) {
	keepalive, err := s.unitCost(ctx, etcd, keepaliveLoop(client))
	if err != nil {
		return 0, err
	}
	put, err := s.unitCost(ctx, etcd, putLoop(client))
	keepalives := float64(agents) / fleetKeepalive.Seconds()
	return 100 * (keepalives*keepalive.Seconds() + fleetChanges*put.Seconds()), err
}

// keepaliveLoop sends a keepalive of one lease over one stream and waits for the answer.
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

// unitCost calls do again and again for the window, at least once, and returns the CPU time that etcd used for
// each call.
func (s *stage) unitCost(ctx context.Context, etcd *process, do func(context.Context, int) error) (time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	before, err := cpuTime(etcd.pid())
	if err != nil {
		return 0, err
	}
	n := 0
	for start := time.Now(); n == 0 || time.Since(start) < s.window; n++ {
		if err := do(ctx, n); err != nil {
			return 0, err
		}
	}
	after, err := cpuTime(etcd.pid())
	return (after - before) / time.Duration(n), err
}

// runFleet simulates agents on the etcd of its first argument; the second is their number. Each
// keeps the lease of one instance alive, and instances change.
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

// registerFleet puts an instance for each agent, each under its own lease.
func registerFleet(ctx context.Context, clients []*clientv3.Client, agents int) ([]clientv3.LeaseID, error) {
	leases := make([]clientv3.LeaseID, agents)
	keys := discovery.NewKeys("default")
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(64)
	for n := range agents {
		group.Go(func() error {
			client := clients[n%len(clients)]
			granted, err := client.Grant(ctx, int64((4 * fleetTTL).Seconds())) // the first keepalive may wait for the grants of all other agents
			if err != nil {
				return err
			}
			leases[n] = granted.ID
			i := instance(serviceName(n/serviceSize), n)
			_, err = client.Put(ctx, keys.Instance(i.Service, i.ID), string(i.Encode()), clientv3.WithLease(granted.ID))
			return err
		})
	}
	return leases, group.Wait()
}

// keepAlive keeps a lease alive on its own stream. It sends the first keepalive after first.
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

// changeInstances rewrites one instance after the other, [fleetChanges] a second.
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
		i := instance(serviceName(at/serviceSize), at)
		i.Weight = n % 100
		if _, err := client.Put(ctx, keys.Instance(i.Service, i.ID), string(i.Encode()), clientv3.WithLease(leases[at])); err != nil {
			return err
		}
	}
}

// runWatch only watches the fleet on the etcd of its first argument.
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
