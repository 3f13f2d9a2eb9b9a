package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/devetcd"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/life"
	"disc/discovery/retry/retrytest"
)

func TestPut(t *testing.T) {
	t.Parallel()
	a := start(t, etcdtest.Start(t).Endpoint(), settings{})
	s := a.putAndAwait("a")
	kv, _ := a.kv("a")
	if s.Revision != kv.ModRevision || !s.Created || clientv3.LeaseID(kv.Lease) != a.lease() {
		t.Errorf("state %+v, key %v, lease %x", s, kv, a.lease())
	}
	if i := a.record("a"); i.Owner != "owner" || i.Run != "run" || i.Node != "here" || i.RegisteredAt.IsZero() {
		t.Errorf("record %+v", i)
	}
	changed := instance("a")
	changed.Status = discovery.Critical
	a.Put(changed)
	if next := a.awaitSettled("a"); next.Created || next.Revision <= s.Revision || a.record("a").Status != discovery.Critical {
		t.Errorf("state %+v after a change", next)
	}
	a.Put(changed) // nothing changes
	a.putAndAwait("b")
	if story := a.history("a"); story != "PP" {
		t.Errorf("history %s", story)
	}
	if _, err := a.State("web", "other"); !errors.Is(err, discovery.ErrNotFound) {
		t.Errorf("an unknown instance: %v", err)
	}
	node, err := a.etcd.Get(t.Context(), keys.Node("here", "owner"))
	if err != nil || len(node.Kvs) != 1 || clientv3.LeaseID(node.Kvs[0].Lease) != a.lease() {
		t.Errorf("node %v, %v", node, err)
	}
}

// A restarted agent overwrites its record. The registration time stays, and the status until
// the checks have a result. No reader sees the record deleted.
func TestTakeover(t *testing.T) {
	t.Parallel()
	for _, sees := range []bool{true, false} {
		t.Run(fmt.Sprintf("view=%v", sees), func(t *testing.T) {
			etcd := etcdtest.Start(t).Endpoint()
			first := start(t, etcd, settings{run: "first"})
			i := instance("a")
			i.Checks = []discovery.CheckStatus{{ID: "one", Status: discovery.Warning}, {ID: "two", Status: discovery.Passing}}
			i.Status = discovery.Warning
			first.Put(i)
			first.awaitSettled("a")
			before := first.record("a")
			first.stop()

			s := settings{run: "second", view: emptyView{}}
			if sees {
				s.view = nil
			}
			second := start(t, etcd, s)
			i.Status = ""
			i.Checks = []discovery.CheckStatus{{ID: "two"}, {ID: "new"}, {ID: "one"}}
			second.Put(i)
			i.ID = "b"
			second.Put(i)
			if s := second.awaitSettled("a"); s.Phase != PhaseWritten || s.Created || s.Instance.Status != discovery.Warning {
				t.Errorf("state %+v", s)
			}
			after := second.record("a")
			if after.Run != "second" || after.Status != discovery.Warning || !after.RegisteredAt.Equal(before.RegisteredAt) {
				t.Errorf("after %+v, before %+v", after, before)
			}
			if got := fmt.Sprint(after.Checks); got != "[{two   passing } {new   critical } {one   warning }]" {
				t.Errorf("checks %s", got)
			}
			if s := second.awaitSettled("b"); !s.Created || second.record("b").Status != discovery.Critical {
				t.Errorf("without an earlier record: %+v, %+v", s, second.record("b"))
			}
			if kv, _ := second.kv("a"); clientv3.LeaseID(kv.Lease) != second.lease() {
				t.Errorf("lease %x, want %x", kv.Lease, second.lease())
			}
			if story := second.history("a"); story != "PP" {
				t.Errorf("history %s", story)
			}
		})
	}
}

func TestLostLease(t *testing.T) {
	t.Parallel()
	a := start(t, etcdtest.Start(t).Endpoint(), settings{})
	for n := range 3 {
		a.putAndAwait(fmt.Sprint(n))
	}
	old := a.revokeLease()
	for n := range 3 {
		retrytest.Eventually(t, "everything under the new lease", func() bool { return a.lease() != old && a.ownsRecord(fmt.Sprint(n)) })
		if s := a.awaitSettled(fmt.Sprint(n)); s.Phase != PhaseWritten {
			t.Errorf("%d is %+v", n, s)
		}
	}
	retrytest.Eventually(t, "the node", func() bool {
		got, err := a.etcd.Get(t.Context(), keys.Node("here", "owner"))
		return err == nil && len(got.Kvs) == 1
	})
}

// Under a new lease the agent's own record comes back after its instances, so that no reader can
// conclude from it that those which are missing yet were removed.
func TestNodeComesBackLast(t *testing.T) {
	t.Parallel()
	const n = 250
	a := start(t, etcdtest.Start(t).Endpoint(), settings{view: emptyView{}})
	putMany(a, n)
	for i := range n {
		a.awaitSettled(fmt.Sprintf("%04d", i))
	}
	old := a.revokeLease()
	var node *clientv3.GetResponse
	retrytest.Eventually(t, "the node under a new lease", func() bool {
		var err error
		node, err = a.etcd.Get(bounded(t), keys.Node("here", "owner"))
		return err == nil && len(node.Kvs) == 1 && clientv3.LeaseID(node.Kvs[0].Lease) != old
	})
	instances, err := a.etcd.Get(bounded(t), keys.Service("web"), clientv3.WithPrefix(), clientv3.WithRev(node.Kvs[0].ModRevision))
	if err != nil {
		t.Fatal(err)
	}
	back := 0
	for _, kv := range instances.Kvs {
		if kv.Lease == node.Kvs[0].Lease {
			back++
		}
	}
	if back != n {
		t.Errorf("when the node was written, %d of %d instances were back", back, n)
	}
}

// The agent's own record comes after its instances, also where one of them is in conflict and
// makes the write of its whole batch fail.
func TestNodeComesAfterConflict(t *testing.T) {
	t.Parallel()
	a := start(t, etcdtest.Start(t).Endpoint(), settings{view: emptyView{}})
	a.putAndAwait("first")
	a.stop()
	a.put("0005", foreign("0005", "other", "r", ""))
	putMany(a, 10)
	a.nodeLease = 0
	if err := a.reconcile(t.Context(), a.lease()); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		id := fmt.Sprintf("%04d", i)
		if s, err := a.State("web", id); err != nil || i != 5 && (s.Phase != PhaseWritten || s.Revision > a.nodeRevision) {
			t.Errorf("%s is %+v, %v; the node is of revision %d", id, s, err, a.nodeRevision)
		}
	}
	if s, err := a.State("web", "0005"); err != nil || s.Phase != PhaseConflict {
		t.Errorf("0005 is %+v, %v", s, err)
	}
}

// An etcd without data replaces the one at the same address.
func TestWipedEtcd(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	link := etcdtest.StartLink(t, s.Endpoint())
	a := start(t, s.Endpoint(), settings{endpoint: link.Endpoint(), view: emptyView{}})
	for n := range 3 {
		a.putAndAwait(fmt.Sprint(n))
	}
	link.Freeze()
	link.Cut()
	s.Close()
	etcdtest.StartWith(t, devetcd.Options{Listen: s.Endpoint()})
	link.Mend()
	for n := range 3 {
		retrytest.Eventually(t, "everything again", func() bool { return a.ownsRecord(fmt.Sprint(n)) })
	}
}

func TestEtcdAwayAtPut(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	link := etcdtest.StartLink(t, s.Endpoint())
	link.Freeze()
	a := start(t, s.Endpoint(), settings{endpoint: link.Endpoint()})
	a.Put(instance("a"))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if s, err := a.AwaitSettled(ctx, "web", "a"); s.Phase != PhasePending || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without etcd: %+v, %v", s, err)
	}
	link.Cut()
	link.Mend()
	if s := a.awaitSettled("a"); s.Phase != PhaseWritten {
		t.Errorf("state %+v", s)
	}
}

// Whatever somebody does to a record is undone: promptly if the view shows it, otherwise at
// the next resync.
func TestRepair(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		s    settings
	}{{"view", settings{resyncInterval: time.Hour}}, {"resync", settings{view: emptyView{}, resyncInterval: 100 * time.Millisecond}}} {
		t.Run(test.name, func(t *testing.T) {
			a := start(t, etcdtest.Start(t).Endpoint(), test.s)
			a.putAndAwait("a")
			other, err := a.etcd.Grant(t.Context(), 3600)
			if err != nil {
				t.Fatal(err)
			}
			kv, _ := a.kv("a")
			good := string(kv.Value)
			for name, harm := range map[string]func(){
				"deleted":           func() { a.delete("a") },
				"altered":           func() { a.put("a", strings.Replace(good, "10.0.0.5", "10.0.0.6", 1), clientv3.WithLease(a.lease())) },
				"junk":              func() { a.put("a", "junk") },
				"misplaced":         func() { a.put("a", foreign("b", "owner", "run", "")) },
				"another lease":     func() { a.put("a", good, clientv3.WithLease(other.ID)) },
				"no lease":          func() { a.put("a", good) },
				"others' tombstone": func() { a.put("a", foreign("a", "x", "y", `,"leaving":true`)) },
				"an earlier run's":  func() { a.put("a", foreign("a", "owner", "old", "")) },
			} {
				harm()
				retrytest.Eventually(t, "the repair of a record that is "+name, func() bool {
					kv, _ := a.kv("a")
					return a.ownsRecord("a") && string(kv.Value) == good
				})
				if s := a.awaitSettled("a"); s.Phase != PhaseWritten {
					t.Fatalf("%s: %+v", name, s)
				}
				retrytest.Eventually(t, "the state to show it", func() bool {
					kv, _ := a.kv("a")
					return a.awaitSettled("a").Revision == kv.ModRevision
				})
			}
		})
	}
}

func TestRepairOfTheNode(t *testing.T) {
	t.Parallel()
	a := start(t, etcdtest.Start(t).Endpoint(), settings{resyncInterval: time.Hour})
	a.putAndAwait("a")
	key := keys.Node("here", "owner")
	if _, err := a.etcd.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	retrytest.Eventually(t, "the node", func() bool {
		got, err := a.etcd.Get(t.Context(), key)
		return err == nil && len(got.Kvs) == 1
	})
}

func TestResync(t *testing.T) {
	t.Parallel()
	a := start(t, etcdtest.Start(t).Endpoint(), settings{view: emptyView{}, resyncInterval: time.Hour})
	a.putAndAwait("a")
	a.delete("a")
	a.Resync()
	retrytest.Eventually(t, "the repair", func() bool { return a.ownsRecord("a") })
}

// A view that begins anew, as after etcd was restored together with the lease, makes every
// record suspect, whatever its revisions are.
func TestRestoredView(t *testing.T) {
	t.Parallel()
	for _, epoch := range []string{"first", "second"} {
		t.Run(epoch, func(t *testing.T) {
			view := &fakeView{changed: make(chan struct{})}
			view.begin(1000, "first")
			a := start(t, etcdtest.Start(t).Endpoint(), settings{view: view, resyncInterval: time.Hour})
			a.putAndAwait("a")
			retrytest.Eventually(t, "a comparison with the view", func() bool {
				a.mu.Lock()
				defer a.mu.Unlock()
				return a.compared.Revision() == 1000
			})
			a.delete("a")
			view.begin(1, epoch)
			retrytest.Eventually(t, "the repair", func() bool { return a.ownsRecord("a") })
		})
	}
}

// A record that was written under a lost lease is not in etcd any more.
func TestStateWithoutTheLease(t *testing.T) {
	d := &desired{generation: 2, writtenGeneration: 2, modRevision: 9, lease: 7}
	for lease, want := range map[clientv3.LeaseID]Phase{7: PhaseWritten, 8: PhasePending, 0: PhasePending} {
		if got := d.state(lease).Phase; got != want {
			t.Errorf("under %d: %s, want %s", lease, got, want)
		}
	}
}

// A record that the view shows is read before it is overwritten, which spares etcd a
// transaction that fails.
func TestReadBeforeTheFirstWrite(t *testing.T) {
	t.Parallel()
	a := start(t, etcdtest.Start(t).Endpoint(), settings{})
	a.put("a", foreign("a", "owner", "earlier", ""))
	a.stop()
	retrytest.Eventually(t, "the view to show it", func() bool { return (&desired{instance: instance("a")}).recordIn(a.view.(*fakeView).now()) != nil })
	a.Put(instance("a"))
	a.compareWithView(a.currentLease)
	d := a.desired[keys.Instance("web", "a")]
	if !d.needsRead() || d.needsWrite(a.lease()) {
		t.Error("the record would be written before it is read")
	}
}

// The agent's own record waits for the epoch, and nothing else does.
func TestOwnRecordWaitsForTheEpoch(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t).Endpoint()
	client := etcdtest.Client(t, etcd)
	known := life.New(client, keys, life.Options{})
	a := start(t, etcd, settings{life: known})
	a.putAndAwait("web-1")
	own := func() bool {
		return len(etcdtest.Must(client.Get(bounded(t), keys.Node("here", "owner"))).Kvs) > 0
	}
	a.putAndAwait("web-2") // after another pass
	if own() {
		t.Error("it is written before the epoch")
	}
	if _, err := known.Check(bounded(t), client, life.Identity{}); err != nil {
		t.Fatal(err)
	}
	retrytest.Eventually(t, "the agent's own record", own)
}
