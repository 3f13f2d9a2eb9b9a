package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"disc/discovery"
	"disc/discovery/devetcd"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lease"
	"disc/discovery/retry/retrytest"
)

// The attempts become rarer, and writes that failed equally often are due at the same time.
func TestNextAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		grid := newRetryGrid()
		var one, other attempt
		for n, bound := 1, firstRetry; n < 12; n, bound = n+1, min(2*bound, maxRetry) {
			grid.failed(&one, time.Now())
			time.Sleep(time.Until(one.at) / 2)
			other.failures = one.failures - 1
			grid.failed(&other, time.Now())
			wait := time.Until(one.at)
			if wait <= 0 || wait > bound || !one.at.Equal(other.at) || one.due(time.Now()) {
				t.Errorf("after %d failures: in %v, and another in %v; want both at most in %v", n, wait, time.Until(other.at), bound)
			}
			time.Sleep(wait)
			if !one.due(time.Now()) {
				t.Error("it is not due at its time")
			}
		}
		// The first time that another writer comes first is retried at once, also after refusals.
		for _, contended := range []*attempt{{}, &one} {
			if grid.contended(contended, time.Now()); !contended.due(time.Now()) {
				t.Errorf("after another writer came first: in %v", time.Until(contended.at))
			}
			if grid.contended(contended, time.Now()); contended.due(time.Now()) || time.Until(contended.at) > firstRetry {
				t.Errorf("after it came first again: in %v", time.Until(contended.at))
			}
		}
	})
}

// restricted runs an agent whose role may write its node's key and those under the prefixes.
func restricted(t *testing.T, prefixes ...string) (a *agent, root *clientv3.Client) {
	t.Helper()
	return restrictedLogging(t, nil, prefixes...)
}

// restrictedLogging is restricted with a log; nil: the test's.
func restrictedLogging(t *testing.T, log io.Writer, prefixes ...string) (a *agent, root *clientv3.Client) {
	t.Helper()
	s := etcdtest.StartWith(t, devetcd.Options{Configure: func(c *embed.Config) { c.BcryptCost = 4 }})
	root = restrict(t, s.Endpoint(), append(prefixes, keys.Nodes())...)
	a = start(t, s.Endpoint(), settings{client: etcdtest.User(t, s.Endpoint(), "agent"), view: emptyView{}, log: log})
	a.etcd = root
	return a, root
}

// raftIndex returns how many proposals etcd has had.
func (a *agent) raftIndex() uint64 {
	a.t.Helper()
	s, err := a.etcd.Status(bounded(a.t), a.etcd.Endpoints()[0])
	if err != nil {
		a.t.Fatal(err)
	}
	return s.RaftIndex
}

// failedPasses returns how often the agent has failed to make etcd equal to its desired set.
func (a *agent) failedPasses() uint64 {
	a.t.Helper()
	var m dto.Metric
	if err := a.metrics.failures.Write(&m); err != nil {
		a.t.Fatal(err)
	}
	return uint64(m.GetCounter().GetValue())
}

// An agent whose role may not write costs etcd a few proposals each time that it tries, however
// many instances it has. It tries more and more rarely, and has success once it may write.
func TestRefusalStorm(t *testing.T) {
	t.Parallel()
	// Four times perAttempt, and no more: for each write under a lease etcd checks the permission for all
	// keys of the lease, so that the time for n records rises with the square of n.
	const n, perAttempt = 100, 25
	for name, service := range map[string]func(i int) string{
		"one service":   func(int) string { return "web" },
		"many services": func(i int) string { return fmt.Sprint("s", i) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, root := restricted(t)
			retrytest.Eventually(t, "a lease", func() bool { return a.lease() != 0 })
			before := a.raftIndex()
			for i := range n {
				one := instance(fmt.Sprintf("%04d", i))
				one.Service = service(i)
				a.Put(one)
			}
			put := a.failedPasses()
			retrytest.Eventually(t, "five attempts", func() bool { return a.failedPasses() >= put+5 })
			attempts := a.failedPasses() + 1
			if rise := a.raftIndex() - before; rise > attempts*perAttempt {
				t.Errorf("%d attempts made %d proposals", attempts, rise)
			}
			for i := range n {
				if s, err := a.State(service(i), fmt.Sprintf("%04d", i)); err != nil || !errors.Is(s.Err, rpctypes.ErrPermissionDenied) {
					t.Fatalf("%d is %+v, %v", i, s, err)
				}
			}
			all := keys.Services()
			if _, err := root.RoleGrantPermission(bounded(t), "agent", all, clientv3.GetPrefixRangeEnd(all), clientv3.PermissionType(clientv3.PermReadWrite)); err != nil {
				t.Fatal(err)
			}
			for i := range n {
				if s, err := a.AwaitSettled(bounded(t), service(i), fmt.Sprintf("%04d", i)); err != nil || s.Phase != PhaseWritten {
					t.Fatalf("with permission %d is %+v, %v", i, s, err)
				}
			}
		})
	}
}

// The instances of services that an agent may not write hold up others for a moment only, even
// if there are many such services and all are tried first.
func TestRefusedServices(t *testing.T) {
	t.Parallel()
	const forbidden, instances = 60, 10
	a, _ := restricted(t, keys.Service("web"))
	for n := range forbidden * instances {
		one := instance(fmt.Sprintf("%04d", n))
		one.Service = fmt.Sprintf("s%02d", n%forbidden)
		a.Put(one)
	}
	putMany(a, instances)
	for n := range instances {
		if s := a.awaitSettled(fmt.Sprintf("%04d", n)); s.Phase != PhaseWritten {
			t.Fatalf("%d is %+v", n, s)
		}
	}
}

// An agent that stops writes first the tombstones that etcd has not refused the records of.
func TestRefusedTombstones(t *testing.T) {
	t.Parallel()
	a, root := restricted(t, keys.Services())
	for n := range 40 {
		one := instance("a")
		one.Service = fmt.Sprintf("s%02d", n)
		a.Put(one)
		if s, err := a.AwaitSettled(bounded(t), one.Service, "a"); err != nil || s.Phase != PhaseWritten {
			t.Fatalf("%s is %+v, %v", one.Service, s, err)
		}
	}
	a.putAndAwait("a")
	narrow(t, root, keys.Services(), keys.Service("web"))
	for n := range 40 {
		one := instance("a")
		one.Service, one.Port = fmt.Sprintf("s%02d", n), 81
		a.Put(one)
	}
	retrytest.Eventually(t, "a refusal of each", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, d := range a.desired {
			if d.instance.Service != "web" && d.attempt.refused == 0 {
				return false
			}
		}
		return true
	})
	a.stop()
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	_ = a.DeregisterAll(stopped)
	if err := a.reconcile(t.Context(), a.lease()); err != nil {
		t.Fatal(err)
	}
	wantTombstone(t, a, "a")
}

// What a caller changes or removes while it is refused is attempted by the next pass. The others
// wait, and say why.
func TestChangeDuringRefusal(t *testing.T) {
	t.Parallel()
	a, _ := restricted(t)
	putMany(a, 8)
	retrytest.Eventually(t, "a refusal of all", func() bool { s, err := a.State("web", "0007"); return err == nil && s.Err != nil })
	a.stop()
	want := map[string]bool{"0000": true, "0005": true, "0006": true} // to be attempted at once
	for _, d := range a.desired {
		d.attempt = attempt{failures: 9, refused: 1, at: time.Now()}
		a.update(d)
	}
	change := sync.OnceFunc(func() {
		for _, id := range []string{"0000", "0005"} {
			one := instance(id)
			one.Port = 81
			a.Put(one)
		}
		a.Remove("web", "0006")
	})
	if err := a.perform(t.Context(), a.writeStep(change), &refusals{}); err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		id := fmt.Sprintf("%04d", i)
		if d := a.desired[keys.Instance("web", id)]; d.attempt.at.IsZero() != want[id] {
			t.Errorf("the next attempt of %s is %+v", id, d.attempt)
		}
	}
	if s, err := a.State("web", "0007"); err != nil || !strings.HasPrefix(fmt.Sprint(s.Err), "waits, because etcd refuses other records: write web/0003: ") {
		t.Errorf("0007 is %+v, %v", s, err)
	}
}

// Checks whose results change all the time cost etcd nothing more for records that it refuses or
// that are in conflict. The results are written once the record may be.
func TestRefusedFlapping(t *testing.T) {
	t.Parallel()
	a, root := restricted(t, keys.Service("taken"))
	other := instance("b")
	other.Service = "taken"
	if _, err := root.Put(bounded(t), keys.Instance("taken", "b"), strings.ReplaceAll(foreign("b", "other", "r", ""), `"web"`, `"taken"`)); err != nil {
		t.Fatal(err)
	}
	a.Put(instance("a"))
	a.Put(other)
	retrytest.Eventually(t, "a refusal and a conflict", func() bool {
		refused, err := a.State("web", "a")
		conflict, otherErr := a.State(other.Service, other.ID)
		return err == nil && otherErr == nil && refused.Err != nil && conflict.Phase == PhaseConflict
	})
	a.stop()
	d, inConflict := a.desired[keys.Instance("web", "a")], a.desired[keys.Instance(other.Service, other.ID)]
	d.attempt.at = time.Now().Add(time.Hour)
	before := d.attempt
	for _, status := range []discovery.Status{discovery.Critical, discovery.Passing, discovery.Critical} {
		one := instance("a")
		one.Status, other.Status = status, status
		a.PutStatus(one)
		a.PutStatus(other)
	}
	if d.attempt != before || inConflict.conflict == nil {
		t.Errorf("the next attempt is %+v, the conflict %v", d.attempt, inConflict.conflict)
	}
	if d.instance.Status != discovery.Critical || d.writtenGeneration == d.generation {
		t.Errorf("the last result is not to be written: %+v", d)
	}
	a.Put(instance("a"))
	a.Put(other)
	if !d.attempt.at.IsZero() || inConflict.conflict != nil {
		t.Errorf("asked again, the next attempt is %+v, the conflict %v", d.attempt, inConflict.conflict)
	}
}

// A new lease makes the agent attempt at once what etcd refused under the old one. The order of
// the attempts stays.
func TestRefusedUnderLease(t *testing.T) {
	t.Parallel()
	a := start(t, etcdtest.Start(t).Endpoint(), settings{view: emptyView{}})
	a.putAndAwait("a")
	a.stop()
	d := a.desired[keys.Instance("web", "a")]
	late := attempt{failures: 9, refused: 3, at: time.Now().Add(time.Hour)}
	d.attempt, d.load.attempt, a.nodeAttempt = late, late, late
	a.compareWithView(lease.Lease{ID: a.lease(), TTL: sessionTTL})
	if d.attempt != late || d.load.attempt != late || a.nodeAttempt != late {
		t.Error("the old lease changed the attempts")
	}
	a.compareWithView(lease.Lease{ID: a.lease() + 1, TTL: sessionTTL})
	if want := (attempt{refused: 3}); d.attempt != want || d.load.attempt != want || a.nodeAttempt != want {
		t.Errorf("the next attempts are %+v, %+v and %+v", d.attempt, d.load.attempt, a.nodeAttempt)
	}
}

// narrow gives the agents permission for one prefix instead of another.
func narrow(t *testing.T, root *clientv3.Client, from, to string) {
	t.Helper()
	if _, err := root.RoleGrantPermission(bounded(t), "agent", to, clientv3.GetPrefixRangeEnd(to), clientv3.PermissionType(clientv3.PermReadWrite)); err != nil {
		t.Fatal(err)
	}
	if _, err := root.RoleRevokePermission(bounded(t), "agent", from, clientv3.GetPrefixRangeEnd(from)); err != nil {
		t.Fatal(err)
	}
}

// An etcd that takes fewer operations in a transaction gets smaller ones, until a resync finds
// out anew.
func TestMaxTxnOps(t *testing.T) {
	t.Parallel()
	s := etcdtest.StartWith(t, devetcd.Options{Configure: func(c *embed.Config) { c.MaxTxnOps = 7 }})
	a := start(t, s.Endpoint(), settings{})
	putMany(a, 300)
	for i := range 300 {
		a.report(fmt.Sprintf("%04d", i), 0.5)
	}
	revisions := map[int64]bool{}
	for i := range 300 {
		revisions[a.awaitSettled(fmt.Sprintf("%04d", i)).Revision] = true
	}
	if len(revisions) > 300/3 {
		t.Errorf("300 records took %d transactions", len(revisions))
	}
	if err := a.DeregisterAll(bounded(t)); err != nil {
		t.Fatal(err)
	}
	wantTombstone(t, a, "0299")
	a.stop()
	learned := a.maxOps
	if a.suspectAll(); learned > 7 || a.maxOps != batchOps {
		t.Errorf("after batches of %d operations, a resync begins with %d", learned, a.maxOps)
	}
}

// writeStep returns the step that writes records, in which before is called first; nil: nothing.
func (a *agent) writeStep(before func()) step {
	needs := func(d *desired) bool { return d.needsWrite(a.lease()) }
	return step{needs, needs, func(d *desired) *attempt { return &d.attempt }, func(ctx context.Context, batch []*draft) error {
		if before != nil {
			before()
		}
		return a.write(ctx, batch, a.lease())
	}}
}

// A writer that changes a record all the time makes the agent try more and more rarely, and
// holds up no instance whose record was in the same transaction.
func TestContention(t *testing.T) {
	t.Parallel()
	a := start(t, etcdtest.Start(t).Endpoint(), settings{view: emptyView{}})
	a.putAndAwait("a")
	a.stop()
	contended := a.desired[keys.Instance("web", "a")]
	contended.writtenGeneration = 0
	a.update(contended)
	a.Put(instance("b"))
	tries := 0
	perform := func() {
		t.Helper()
		var refused refusals
		if err := a.perform(t.Context(), a.writeStep(func() { tries++; a.put("a", "junk") }), &refused); err != nil {
			t.Fatal(err)
		}
	}
	perform() // both
	if tries != 1 || contended.attempt.failures != 0 || !contended.attempt.at.IsZero() {
		t.Errorf("after %d tries the next attempt is %+v", tries, contended.attempt)
	}
	perform()
	if tries != 2 || contended.attempt.failures != 1 || contended.attempt.at.IsZero() || !errors.Is(contended.err, errContended) {
		t.Errorf("after %d tries the next attempt is %+v: %v", tries, contended.attempt, contended.err)
	}
	contended.attempt.at = time.Now().Add(time.Hour)
	if perform(); tries != 3 || !a.ownsRecord("b") {
		t.Errorf("after %d tries the other instance is written: %v", tries, a.ownsRecord("b"))
	}
	if perform(); tries != 3 {
		t.Error("an attempt was made before its time")
	}
}
