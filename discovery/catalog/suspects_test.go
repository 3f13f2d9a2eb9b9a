package catalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"disc/discovery"
	"disc/discovery/devetcd"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lookup"
	"disc/discovery/reflector"
	"disc/discovery/retry/retrytest"
	"disc/discovery/view"
)

// longBurstPause is the pause that ends a burst in tests whose losses must count together,
// even on a slow machine.
const longBurstPause = 20 * time.Second

// agents are agents that each have a lease, a record of their own, and one instance of each
// service.
type agents struct {
	*fixture
	services []string
	leases   []clientv3.LeaseID
}

func (f *fixture) agents(n int, services ...string) *agents {
	a := &agents{f, services, make([]clientv3.LeaseID, n)}
	a.register(0, n)
	retrytest.Eventually(f.t, "the agents are seen", func() bool { return f.snapshot() != nil && f.snapshot().NodeCount() == n })
	return a
}

// each calls do for some of the agents, up to 32 at a time. The context of each call has its
// own bound: a bound of all calls would depend on how fast the machine is.
func (a *agents) each(from, to int, do func(ctx context.Context, n int) error) {
	a.t.Helper()
	group := errgroup.Group{}
	group.SetLimit(32)
	for n := from; n < to; n++ {
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
			defer cancel()
			return do(ctx, n)
		})
	}
	if err := group.Wait(); err != nil {
		a.t.Fatal(err)
	}
}

// register registers some of the agents, each under a new lease.
func (a *agents) register(from, to int) {
	a.t.Helper()
	a.registerOnly(from, to, func(string) bool { return true })
}

// registerOnly registers what is wanted of some of the agents, by key, under new leases.
func (a *agents) registerOnly(from, to int, wanted func(key string) bool) {
	a.t.Helper()
	a.each(from, to, func(ctx context.Context, n int) error {
		lease, err := a.etcd.Grant(ctx, 3600)
		if err != nil {
			return err
		}
		a.leases[n] = lease.ID
		owner, node := fmt.Sprintf("%s-%04d", a.services[0], n), fmt.Sprintf("n%04d", n)
		puts := []clientv3.Op{clientv3.OpPut(keys.Node(node, owner), fmt.Sprintf(`{"node":%q,"agent":%q}`, node, owner), clientv3.WithLease(lease.ID))}
		for _, service := range a.services {
			id := fmt.Sprintf("i%04d", n)
			value := fmt.Sprintf(`{"service":%q,"id":%q,"node":%q,"owner":%q,"address":"10.0.0.5","port":%d}`, service, id, node, owner, n+1)
			puts = append(puts, clientv3.OpPut(keys.Instance(service, id), value, clientv3.WithLease(lease.ID)))
		}
		puts = slices.DeleteFunc(puts, func(op clientv3.Op) bool { return !wanted(string(op.KeyBytes())) })
		_, err = a.etcd.Txn(ctx).Then(puts...).Commit()
		return err
	})
}

// die revokes the leases of some of the agents.
func (a *agents) die(from, to int) {
	a.t.Helper()
	a.each(from, to, func(ctx context.Context, n int) error {
		_, err := a.etcd.Revoke(ctx, a.leases[n])
		return err
	})
}

// deletes returns the deletions among the events after a cursor.
func (f *fixture) deletes(since discovery.Cursor) []string {
	f.t.Helper()
	events, ok := f.Events("", since)
	if !ok {
		f.t.Fatalf("the history does not reach back to %v", since)
	}
	var all []string
	for _, e := range events {
		if e.Type == view.EventDelete {
			all = append(all, fmt.Sprint(e.ID, " ", e.Reason))
		}
	}
	return all
}

func (f *fixture) suspectsAre(n int) {
	f.t.Helper()
	retrytest.Eventually(f.t, fmt.Sprint(n, " suspects"), func() bool { return f.Health().Suspects == n })
}

func (f *fixture) entries(service string) int {
	f.t.Helper()
	return len(mustService(f.t, f.snapshot(), service).Entries())
}

// The leases of most agents expire one by one; then the agents register again.
func TestLeasesExpireAtOnce(t *testing.T) {
	t.Parallel()
	f := begin(t, Options{MassLoss: &MassLossGuard{burstPause: longBurstPause}})
	a := f.agents(10, "web", "db")
	at := f.settled().Cursor()
	a.die(1, 10)
	f.suspectsAre(18)
	answer, err := lookup.Lookup(f.snapshot(), lookup.Query{Name: "web"})
	if err != nil || len(answer.Endpoints) != 10 || answer.Endpoints[0].ID != "i0000" || !answer.Endpoints[1].Suspect {
		t.Errorf("answered with %+v, %v", answer, err)
	}
	index := mustService(t, f.snapshot(), "web").Index()
	a.register(1, 6)
	f.suspectsAre(8)
	if e, _ := mustService(t, f.snapshot(), "web").Entry("i0003"); e.Suspect {
		t.Error("an instance that returned is still a suspect")
	}
	if mustService(t, f.snapshot(), "web").Index() == index {
		t.Error("the index of web did not change, so waiters would not wake")
	}
	a.register(6, 10)
	f.suspectsAre(0)
	if deleted := f.deletes(at); len(deleted) > 0 {
		t.Errorf("readers see deletions: %v", deleted)
	}
	if began, ended := f.log.lines("many instances vanished"), f.log.lines("no suspects are left"); len(began) != 1 || len(ended) != 1 {
		t.Errorf("the log says %q, %q", began, ended)
	}
	f.settled()
}

// Half of the agents lose their leases while a catalog is cut off, and are not back altogether
// when it compares with etcd: what is missing of them has expired, in whichever order they write.
func TestAgentsBackInPart(t *testing.T) {
	t.Parallel()
	const n, lost = 10, 5
	for name, test := range map[string]struct {
		back     func(key string) bool
		suspects int
	}{
		"own record first": {func(key string) bool { return strings.HasPrefix(key, keys.Nodes()) }, 2 * lost},
		"own record last":  {func(key string) bool { return strings.HasPrefix(key, keys.Service("web")) }, lost},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, link := linked(t, Options{MassLoss: &MassLossGuard{burstPause: longBurstPause}})
			a := f.agents(n, "web", "db")
			known := len(f.changes())
			link.Freeze()
			a.die(0, lost)
			a.registerOnly(0, lost, test.back)
			link.Cut()
			link.Mend()
			retrytest.Eventually(t, "a comparison with etcd", func() bool { return len(f.changes()) > known })
			f.suspectsAre(test.suspects)
			if web, db := f.entries("web"), f.entries("db"); web != n || db != n {
				t.Errorf("%d instances of web and %d of db are shown, want %d", web, db, n)
			}
		})
	}
}

// Where the agents' own records are watched apart from the instances, the deletions of an expired
// lease may come in any order. So may they while a watch of everything has not yet taken the place
// of others.
func TestInstancesExpireBeforeTheirAgents(t *testing.T) {
	t.Parallel()
	for name, whole := range map[string]bool{"single services": false, "everything soon": true} {
		t.Run(name, func(t *testing.T) { expireBeforeTheirAgents(t, whole) })
	}
}

func expireBeforeTheirAgents(t *testing.T, whole bool) {
	const n, lost = 10, 5
	c := etcdtest.Must(New(nil, keys, Options{Watch: WatchLazy, MassLoss: &MassLossGuard{burstPause: longBurstPause}}))
	c.state.Store(&state{snapshot: view.EmptySnapshot(), whole: whole, confirmed: time.Now()})
	apply := func(revision int64, events ...*clientv3.Event) {
		for _, e := range events {
			e.Kv.ModRevision = revision
		}
		reflectorStore{c}.Apply(reflector.Update{Events: events, Apart: whole, Revision: revision, Confirmed: time.Now()})
	}
	var puts, instances, nodes []*clientv3.Event
	for i := range n {
		id := fmt.Sprint(i)
		put := func(key, value string) *clientv3.Event {
			return &clientv3.Event{Kv: &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), CreateRevision: 1, Version: 1, Lease: int64(i + 1)}}
		}
		gone := func(key string) *clientv3.Event {
			return &clientv3.Event{Type: clientv3.EventTypeDelete, Kv: &mvccpb.KeyValue{Key: []byte(key)}}
		}
		node, instance := keys.Node("n"+id, "o"), keys.Instance("web", id)
		puts = append(puts, put(node, fmt.Sprintf(`{"node":"n%s","agent":"o"}`, id)), put(instance, fmt.Sprintf(`{"service":"web","id":%q,"address":"10.0.0.5","port":80,"node":"n%s","owner":"o"}`, id, id)))
		if i < lost {
			instances, nodes = append(instances, gone(instance)), append(nodes, gone(node))
		}
	}
	apply(1, puts...)
	apply(2, instances...)
	apply(2, nodes...)
	web := mustService(t, c.snapshot(), "web")
	if shown, suspects := len(web.Entries()), len(web.Suspects()); shown != n || suspects != lost {
		t.Errorf("%d instances are shown and %d of them suspects, want %d and %d", shown, suspects, n, lost)
	}
}

func TestOneOfTenDies(t *testing.T) {
	t.Parallel()
	f := begin(t, Options{MassLoss: &MassLossGuard{}})
	a := f.agents(10, "web")
	at := f.settled()
	web := f.Changed("web")
	a.die(4, 5)
	retrytest.Eventually(f.t, "the dead one is gone", func() bool { return f.entries("web") == 9 })
	if got := f.deletes(at.Cursor()); len(got) != 1 || got[0] != "i0004 expired" {
		t.Errorf("readers see the deletions %v", got)
	}
	if now := mustService(t, f.snapshot(), "web"); now.Index() == mustService(t, at, "web").Index() || !isClosed(web) {
		t.Error("the waiters for a change of web are not woken")
	}
	if n := f.Health().Suspects; n != 0 {
		t.Errorf("there are %d suspects", n)
	}
	// Instances that are removed while their agents live do not count as losses, however many.
	for n := range 4 {
		f.remove(keys.Instance("web", fmt.Sprintf("i%04d", n)))
	}
	retrytest.Eventually(f.t, "the removed ones are gone", func() bool { return f.entries("web") == 5 })
	if got := f.deletes(at.Cursor()); len(got) != 5 || got[4] != "i0003 removed" || f.Health().Suspects != 0 {
		t.Errorf("readers see the deletions %v, suspects %d", got, f.Health().Suspects)
	}
}

// Very many leases expire while the service is looked up. The instances that do not answer
// a probe are dropped.
func TestProbesDecide(t *testing.T) {
	t.Parallel()
	const many, few = 1000, 20
	var start sync.WaitGroup
	start.Add(1)
	dead := func(address string) bool { return strings.HasSuffix(address, "1") } // one in ten
	f := begin(t, Options{MassLoss: &MassLossGuard{burstPause: longBurstPause, Probe: func(_ context.Context, address string) error {
		start.Wait()
		if dead(address) {
			return errors.New("refused")
		}
		return nil
	}}})
	a := f.agents(many, "web")
	b := &agents{f, []string{"db"}, make([]clientv3.LeaseID, few)}
	b.register(0, few)
	at := f.settled().Cursor()
	a.die(0, many)
	b.die(0, few)
	f.suspectsAre(many + few)
	if deleted := f.deletes(at); len(deleted) > 0 || f.entries("web") != many {
		t.Errorf("readers see %d deletions", len(deleted))
	}
	start.Done()
	retrytest.Eventually(f.t, "the instances that do not answer probes are dropped", func() bool {
		_, err := lookup.Lookup(f.snapshot(), lookup.Query{Name: "db"})
		return err == nil && f.entries("db") == few-few/10
	})
	if got := fmt.Sprint(f.deletes(at)); got != "[i0000 expired i0010 expired]" && got != "[i0010 expired i0000 expired]" {
		t.Errorf("readers see the deletions %v", got)
	}
	if f.entries("web") != many {
		t.Error("a service that nobody looks up was probed")
	}
}

// When etcd comes back without its data, no instance is lost, and none is probed before the
// agents had time to register again.
func TestWipedEtcdLosesNobody(t *testing.T) {
	t.Parallel()
	var probed atomic.Int64
	s := etcdtest.Start(t)
	link := etcdtest.StartLink(t, s.Endpoint())
	f := start(t, s.Endpoint(), link.Endpoint(), Options{Life: anyLife, MassLoss: &MassLossGuard{TTL: time.Hour, Probe: func(context.Context, string) error {
		probed.Add(1)
		return errors.New("refused")
	}}})
	a := f.agents(2, "web", "db")
	f.put(keys.Instance("web", "leaving"), `{"service":"web","id":"leaving","address":"10.0.0.5","port":80,"leaving":true}`)
	f.put(keys.Static("web", "static"), `{"service":"web","id":"static","address":"10.0.0.5","port":80}`)
	before := f.settled()
	shut(link, s)
	restored := etcdtest.Client(t, etcdtest.StartWith(t, devetcd.Options{Listen: s.Endpoint()}).Endpoint())
	lease := etcdtest.Must(restored.Grant(t.Context(), 3600))
	etcdtest.Must(restored.Put(t.Context(), keys.SuspectOrder("web", "i0000"), `{"order":"drop"}`, clientv3.WithLease(lease.ID))) // of a backup
	link.Mend()
	retrytest.Eventually(f.t, "the new epoch", func() bool { return f.snapshot().Epoch() != before.Epoch() })
	f.suspectsAre(4)
	if f.entries("web") != 2 || f.entries("db") != 2 {
		t.Errorf("%d of web, %d of db are left, want 2 and 2", f.entries("web"), f.entries("db"))
	}
	if _, err := lookup.Lookup(f.snapshot(), lookup.Query{Name: "web"}); err != nil || !f.suspects.prober.postponed() {
		t.Errorf("lookup: %v; probing waits: %v", err, f.suspects.prober.postponed())
	}
	now := f.snapshot().Cursor()
	a.register(0, 2)
	f.suspectsAre(0)
	f.settled()
	if deleted := f.deletes(now); len(deleted) > 0 || probed.Load() > 0 {
		t.Errorf("readers see the deletions %v; %d were probed", deleted, probed.Load())
	}
}

// After an outage that outlived the leases, a list shows the agents that are back already. An
// instance that it lacks, be it a single one, is no loss yet.
func TestOutageThatOutlivesLeases(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	link := etcdtest.StartLink(t, s.Endpoint())
	f := start(t, s.Endpoint(), link.Endpoint(), Options{Life: anyLife, MassLoss: &MassLossGuard{TTL: time.Second}})
	a := f.agents(3, "web")
	f.settled()
	link.Freeze()
	retrytest.Eventually(t, "an old view", func() bool { v, err := f.View(); return err == nil && v.Age > time.Second })
	a.die(0, 1)
	link.Cut()
	link.Mend()
	f.suspectsAre(1)
	if f.entries("web") != 3 {
		t.Errorf("%d of web are left, want 3", f.entries("web"))
	}
	a.register(0, 1)
	f.suspectsAre(0)
}

// The guard also covers instances that vanished while the catalog was not running, unless
// that was for long, and suspects stay suspects over a restart.
func TestMassLossOverARestart(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	store := &memoryStore{}
	run := func() *fixture {
		return start(t, s.Endpoint(), s.Endpoint(), Options{MassLoss: &MassLossGuard{burstPause: longBurstPause}, LastGood: store})
	}
	f := run()
	a := f.agents(10, "web")
	f.settled()
	f.stop()
	a.die(0, 5)
	f = run()
	f.suspectsAre(5)
	f.stop()
	f = run()
	f.suspectsAre(5)
	f.stop()
	store.confirmed = time.Now().Add(-2 * DefaultRemember)
	f = run()
	retrytest.Eventually(f.t, "a view", func() bool { return f.Health().Synced })
	if n := f.entries("web"); n != 5 {
		t.Errorf("after two hours, %d are left", n)
	}
}

// Probes are at most 20 a second, start after the postponement, and end with the last suspect.
func TestProber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, quiet = 100, 20 * time.Second
		var mu sync.Mutex
		s := newSuspectsSnapshot(map[string]int{"web": n})
		current := func() *view.Snapshot {
			mu.Lock()
			defer mu.Unlock()
			must(s.Service("web")).Memo("key", func() any { return 1 })
			return s
		}
		start := time.Now()
		var probes []time.Duration
		p := newProber(func(ctx context.Context, address string) error {
			mu.Lock()
			probes = append(probes, time.Since(start))
			mu.Unlock()
			<-ctx.Done() // nothing answers
			return ctx.Err()
		})
		p.postpone(start.Add(quiet))
		done := make(chan struct{})
		go func() { p.probeAll(t.Context(), current); close(done) }()
		for range n {
			i := <-p.failed
			mu.Lock()
			s, _ = s.Resolve([]view.Decision{{Service: i.service, ID: i.id}})
			mu.Unlock()
		}
		<-done
		if len(probes) != n || probes[0] < quiet {
			t.Errorf("%d probes, the first after %v", len(probes), probes[0])
		}
		for k := range probes[:n-20] {
			if d := probes[k+20] - probes[k]; d < time.Second {
				t.Fatalf("20 probes within %v", d)
			}
		}
	})
}

// A prober that saw no suspects probes those that come later, also when some were counted all
// the time: the old ones returned while the new ones came.
func TestProberSeesLaterSuspects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var current atomic.Pointer[view.Snapshot]
		current.Store(view.EmptySnapshot())
		var probes atomic.Int64
		tracker := newSuspectTracker(MassLossGuard{Probe: func(context.Context, string) error {
			probes.Add(1)
			return nil
		}}, slog.New(slog.DiscardHandler), etcdtest.Must(newMetrics(nil)))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); tracker.prober.run(ctx, current.Load) }()
		tracker.addSuspect(instanceKey{"web", "old"}, time.Now())
		tracker.report(current.Load())
		synctest.Wait() // the prober has looked, and sleeps

		suspects := newSuspectsSnapshot(map[string]int{"web": 1})
		current.Store(suspects)
		must(suspects.Service("web")).Memo("key", func() any { return 1 })
		tracker.returned(instanceKey{"web", "old"})
		tracker.addSuspect(instanceKey{"web", "new"}, time.Now())
		tracker.report(suspects)
		time.Sleep(time.Second)
		if n := probes.Load(); n != 1 {
			t.Errorf("%d probes, want 1", n)
		}
		cancel()
		<-done
	})
}

// A catalog that is run again, as the agent's watchdog does, goes on probing its suspects.
func TestProbesGoOnWhenRunAgain(t *testing.T) {
	t.Parallel()
	var dead atomic.Bool
	f := begin(t, Options{MassLoss: &MassLossGuard{burstPause: longBurstPause, Probe: func(context.Context, string) error {
		if dead.Load() {
			return errors.New("refused")
		}
		return nil
	}}})
	a := f.agents(10, "web")
	a.die(1, 10)
	f.suspectsAre(9)
	f.stop()
	dead.Store(true)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	defer func() { cancel(); <-done }()
	retrytest.Eventually(t, "the dead ones are dropped", func() bool {
		_, err := lookup.Lookup(f.snapshot(), lookup.Query{Name: "web"})
		return err == nil && f.entries("web") == 1
	})
}
