package e2e_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lease"
	"disc/discovery/registry"
	"disc/discovery/view"
)

var fleetKeys = discovery.NewKeys("default")

// count returns an error unless a lookup returns so many instances.
func (s *sidecar) count(ctx context.Context, service string, want int) error {
	text, _, err := s.LookupText(ctx, service, api.LookupOptions{})
	if got := strings.Count(text, "\n"); err == nil && got != want {
		err = fmt.Errorf("lookup of %s: %d instances, want %d", service, got, want)
	}
	return err
}

// steadyCount looks a service up again and again until stop is called. Every answer must have want
// instances.
func (s *sidecar) steadyCount(t *testing.T, service string, want int) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	var asked int
	var wrong error
	asking.Go(func() {
		for ; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
			if err := s.count(ctx, service, want); ctx.Err() == nil {
				wrong = cmp.Or(wrong, err)
			}
			asked++
		}
	})
	return func() {
		t.Helper()
		cancel()
		asking.Wait()
		if wrong != nil {
			t.Errorf("one of %d answers: %v", asked, wrong)
		}
		t.Logf("%d lookups of %s were answered with %d instances", asked, service, want)
	}
}

// fleet has agents without listeners in this process.
type fleet struct {
	client  *clientv3.Client
	view    registry.View
	ctx     context.Context
	running sync.WaitGroup
}

// newFleet returns a fleet without agents. Its agents run until the test ends.
func newFleet(t *testing.T, client *clientv3.Client, view registry.View) *fleet {
	ctx, cancel := context.WithCancel(context.Background())
	f := &fleet{client: client, view: view, ctx: ctx}
	t.Cleanup(func() { cancel(); f.running.Wait() })
	return f
}

// host is an agent of a fleet: a session and a registry.
type host struct {
	*registry.Registry
	sent *sendTime
}

// sendTime has the time when the first put under the session's present lease was sent. Later ones
// repeat it, as fast as etcd answers.
type sendTime struct {
	clientv3.KV
	session *lease.Session

	mu    sync.Mutex
	lease clientv3.LeaseID
	first time.Time
}

func (s *sendTime) record() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if current, _ := s.session.Lease(); current.ID != s.lease {
		s.lease, s.first = current.ID, time.Now()
	}
}

func (s *sendTime) time() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first
}

func (s *sendTime) Txn(ctx context.Context) clientv3.Txn { return timedTxn{s.KV.Txn(ctx), s} }

// timedTxn is a transaction of a sendTime.
type timedTxn struct {
	clientv3.Txn
	sent *sendTime
}

func (t timedTxn) If(all ...clientv3.Cmp) clientv3.Txn {
	t.Txn.If(all...)
	return t
}

func (t timedTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	if slices.ContainsFunc(ops, clientv3.Op.IsPut) {
		t.sent.record()
	}
	t.Txn.Then(ops...)
	return t
}

// host starts an agent. Its TTL is long, since the keepalives of so many agents on one machine may
// be late.
func (f *fleet) host(name string) host {
	session := etcdtest.Must(lease.New(f.client, time.Minute, lease.Options{}))
	node := discovery.Node{Node: name, Agent: "owner-of-" + name}
	sent := &sendTime{KV: f.client.KV, session: session}
	own := clientv3.NewCtxClient(f.ctx)
	own.KV, own.Lease = sent, f.client.Lease
	identity := registry.Identity{Owner: node.Agent, RunID: "first", Node: node}
	h := host{etcdtest.Must(registry.New(own, fleetKeys, session, f.view, identity, registry.Options{})), sent}
	f.running.Go(func() { session.Run(f.ctx) })
	f.running.Go(func() { h.Run(f.ctx) })
	return h
}

// put registers an instance that passes its checks.
func (h host) put(service, id string) {
	h.Put(discovery.Instance{Service: service, ID: id, Address: "127.0.0.1", Port: 1, Weight: 1, Slots: 1, Status: discovery.Passing})
}

// emptyView is a view that is never available.
type emptyView struct{}

func (emptyView) View() (view.View, error)         { return view.View{}, discovery.ErrUnavailable }
func (emptyView) Changed(string) <-chan struct{}   { return nil }
func (emptyView) Has(...discovery.Scope) bool      { return false }
func (emptyView) Retain(...discovery.Scope) func() { return func() {} }

// TestFaultMassDeregistration deregisters ten thousand instances of a hundred agents at once. It
// is not parallel, since it leaves little of the machine to others.
func TestFaultMassDeregistration(t *testing.T) {
	etcdtest.SkipUnlessLong(t, "registers ten thousand instances")
	const agents, each = 100, 100
	etcd := startMember(t)
	peer := startSidecar(t, "peer", etcd.endpoint)
	hosts, all := make([]host, agents), newFleet(t, etcdtest.Client(t, etcd.endpoint), emptyView{})
	for n := range hosts {
		hosts[n] = all.host(fmt.Sprintf("n%03d", n))
		for i := range each {
			hosts[n].put("web", fmt.Sprintf("web-%03d-%03d", n, i))
		}
	}
	within(t, time.Now(), 4*waitTimeout, "all instances are registered", func() error { return peer.count(t.Context(), "web", agents*each) })

	began := time.Now()
	var leaving errgroup.Group
	for _, h := range hosts {
		leaving.Go(func() error { return h.DeregisterAll(t.Context()) })
	}
	if err := leaving.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("all tombstones were in etcd after %v", time.Since(began).Round(time.Millisecond))
	within(t, began, 5*time.Second, "the peer has applied them", func() error { return peer.count(t.Context(), "web", 0) })
	if n := peer.metric(t, "disc_catalog_suspects"); n != 0 {
		t.Errorf("%v instances are suspects, want none", n)
	}
}

// TestFaultScaledToZero deregisters every instance of one service. This is no mass loss: the peer
// keeps none of them as suspects.
func TestFaultScaledToZero(t *testing.T) {
	t.Parallel()
	etcd := startMember(t)
	one, peer := startSidecar(t, "one", etcd.endpoint), startSidecar(t, "peer", etcd.endpoint)
	var ids []string
	for n := range 20 {
		ids = append(ids, fmt.Sprintf("web-%02d", n))
	}
	for _, id := range ids {
		one.register(t, "web", id)
	}
	one.register(t, "db", "db-1")
	peer.find(t, "web", ids...)

	began := time.Now()
	for _, id := range ids {
		if _, err := one.Deregister(t.Context(), "web", id); err != nil {
			t.Fatal(err)
		}
	}
	within(t, began, 2*time.Second, "the service is empty", func() error { return peer.answers(t.Context(), "web") })
	if err := peer.answers(t.Context(), "db", "db-1"); err != nil {
		t.Error(err)
	}
}

// TestFaultMassExpiry lets the leases of ten thousand agents expire at once, as a network
// partition does. etcd expires a thousand leases a second, in two batches. Meanwhile no answer
// shrinks; then probes find the dead instances. The test is not parallel, since it leaves little of the machine to others.
func TestFaultMassExpiry(t *testing.T) {
	etcdtest.SkipUnlessLong(t, "registers ten thousand agents")
	const agents, workers = 10_000, 20
	alive, dead := strconv.Itoa(livePort(t)), freePort(t)
	etcd := startMember(t)
	peer := startSidecar(t, "peer", etcd.endpoint)
	clients, observer := etcdtest.Client(t, etcd.endpoint), etcdtest.Client(t, etcd.endpoint)
	for ttl := 2 * ttl; ; ttl *= 2 { // a slow machine needs a longer TTL to register so many
		err := errors.Join(
			registerLeased(t, clients, ttl, "web", agents-workers, func(int) string { return alive }),
			registerLeased(t, clients, ttl, "worker", workers, func(n int) string { return []string{alive, dead}[n%2] }))
		if err == nil {
			break
		}
		if !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			t.Fatal(err)
		}
	}
	for service, n := range map[string]int{"web": agents - workers, "worker": workers} {
		within(t, time.Now(), waitTimeout, "all instances of "+service+" are there", func() error { return peer.count(t.Context(), service, n) })
	}

	stop := peer.steadyCount(t, "web", agents-workers)
	began := time.Now()
	clients.Close()
	within(t, began, 4*waitTimeout, "etcd has expired all leases", func() error {
		left, err := observer.Get(t.Context(), fleetKeys.Services(), clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err == nil && left.Count > 0 {
			err = fmt.Errorf("%d records are left", left.Count)
		}
		return err
	})
	within(t, time.Now(), waitTimeout, "all of them are suspects", func() error {
		if n := int(peer.metric(t, "disc_catalog_suspects")); n != agents {
			return fmt.Errorf("%d suspects", n)
		}
		return nil
	})
	asked := time.Now()
	if err := peer.count(t.Context(), "worker", workers); err != nil { // this lookup triggers probes
		t.Error(err)
	}
	within(t, asked, 5*time.Second, "probes have found the dead instances", func() error { return peer.count(t.Context(), "worker", workers/2) })
	stop()

	// An operator knows that none of them lives.
	drop := exec.CommandContext(t.Context(), "disc", "suspects", "drop", "web", "--yes", "-o", "name")
	drop.Env = append(os.Environ(), "DISC_ENDPOINTS="+etcd.endpoint, "DISC_AGENT=unix://"+filepath.Join(peer.dir, "disc.sock"))
	if out, err := drop.Output(); err != nil || bytes.Count(out, []byte("\n")) != agents-workers {
		t.Errorf("%d are dropped: %v", bytes.Count(out, []byte("\n")), err)
	}
	within(t, time.Now(), waitTimeout, "the agent has dropped all that it was ordered to", func() error { return peer.count(t.Context(), "web", 0) })
}

// livePort returns a port of 127.0.0.1 that accepts connections until the test ends, so that
// probes find it alive.
func livePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// registerLeased registers an instance for each of n agents through one client, each under its own
// lease. The leases are kept alive until the client is closed.
func registerLeased(t *testing.T, client *clientv3.Client, ttl time.Duration, service string, n int, port func(int) string) error {
	const batch = 100
	var writing errgroup.Group
	writing.SetLimit(8)
	for first := 0; first < n; first += batch {
		writing.Go(func() error {
			var puts []clientv3.Op
			for i := first; i < min(first+batch, n); i++ {
				granted, err := client.Grant(t.Context(), int64(ttl/time.Second))
				if err != nil {
					return err
				}
				if _, err := client.KeepAlive(context.Background(), granted.ID); err != nil {
					return err
				}
				id := fmt.Sprintf("%s-%05d", service, i)
				record := fmt.Sprintf(`{"service":%q,"id":%q,"node":"n%05d","owner":"owner-%[2]s","address":"127.0.0.1","port":%[4]s}`, service, id, i, port(i))
				puts = append(puts, clientv3.OpPut(fleetKeys.Instance(service, id), record, clientv3.WithLease(granted.ID)))
			}
			_, err := client.Txn(t.Context()).Then(puts...).Commit()
			return err
		})
	}
	return writing.Wait()
}
