package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// wantTombstone fails the test unless an instance's record is a tombstone, under a lease
// that expires in a minute.
func wantTombstone(t *testing.T, a *agent, id string) {
	t.Helper()
	kv, _ := a.kv(id)
	if i := a.record(id); !i.Leaving || clientv3.LeaseID(kv.Lease) == a.lease() {
		t.Errorf("%s is %v", id, kv)
		return
	}
	left, err := a.etcd.TimeToLive(t.Context(), clientv3.LeaseID(kv.Lease))
	if err != nil || left.GrantedTTL != tombstoneTTL || left.TTL < tombstoneTTL/2 {
		t.Errorf("lease of %s: %+v, %v", id, left, err)
	}
}

// modified returns the revision of an instance's key; 0: it does not exist.
func modified(a *agent, id string) int64 {
	a.t.Helper()
	kv, _ := a.kv(id)
	return kv.ModRevision
}

func TestRemove(t *testing.T) {
	t.Parallel()
	a := start(t, etcdtest.Start(t).Endpoint(), settings{})
	a.putAndAwait("a")
	a.Remove("web", "a")
	gone, err := a.AwaitSettled(bounded(t), "web", "a")
	if err != nil || gone.Phase != "" || gone.Revision != modified(a, "a") {
		t.Errorf("%+v, %v", gone, err)
	}
	wantTombstone(t, a, "a")
	if story := a.history("a"); story != "PT" {
		t.Errorf("history %s", story)
	}
	a.Remove("web", "a") // removing what is not there does nothing
	a.Remove("web", "never")

	a.putAndAwait("a") // back again
	a.Remove("web", "a")
	a.Put(instance("a"))
	a.Remove("web", "a")
	a.Put(instance("a"))
	a.awaitSettled("a")
	if !a.ownsRecord("a") {
		t.Errorf("back again: %+v", a.record("a"))
	}
}

// A tombstone that comes late leaves the successor's record alone.
func TestLateTombstone(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, successor string }{
		{"another owner's", foreign("a", "other", "r", "")},
		{"another owner's tombstone", foreign("a", "other", "r", `,"leaving":true`)},
		{"the next run's", foreign("a", "owner", "next", "")},
		{"the next run's tombstone", foreign("a", "owner", "next", `,"leaving":true`)},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := etcdtest.Start(t)
			link := etcdtest.StartLink(t, s.Endpoint())
			a := start(t, s.Endpoint(), settings{endpoint: link.Endpoint(), view: emptyView{}})
			a.putAndAwait("a")
			link.Freeze()
			a.Remove("web", "a")
			a.put("a", test.successor)
			link.Mend()
			a.awaitSettled("a")
			if kv, _ := a.kv("a"); string(kv.Value) != test.successor {
				t.Errorf("the record is %s", kv.Value)
			}
		})
	}
}

// A record that is removed while it is being written is not left behind, even if the answer
// to the write never comes.
func TestRemoveDuringAWrite(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	link := etcdtest.StartLink(t, s.Endpoint())
	a := start(t, s.Endpoint(), settings{endpoint: link.Endpoint(), view: emptyView{}})
	a.putAndAwait("first")
	link.HoldAnswers()
	a.Put(instance("a"))
	retrytest.Eventually(t, "the write to arrive", func() bool { return modified(a, "a") != 0 })
	a.Remove("web", "a")
	link.Cut()
	link.Mend()
	a.awaitSettled("a")
	wantTombstone(t, a, "a")
}

// An instance that this run removes before it wrote it may have a record of an earlier run.
// That record becomes a tombstone once etcd is there.
func TestRemoveWhatAnEarlierRunWrote(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	before := start(t, s.Endpoint(), settings{run: "before"})
	before.putAndAwait("a")
	before.stop()
	link := etcdtest.StartLink(t, s.Endpoint())
	link.Freeze()
	a := start(t, s.Endpoint(), settings{endpoint: link.Endpoint(), view: emptyView{}})
	a.Put(instance("a"))
	a.Remove("web", "a")
	if state, err := a.State("web", "a"); err != nil || state.Phase != PhaseLeaving {
		t.Errorf("%+v, %v while etcd is away; want it to be leaving", state, err)
	}
	link.Cut()
	link.Mend()
	a.awaitSettled("a")
	wantTombstone(t, a, "a")
}

// stoppedWithDraft returns an agent that does not run any more, and a batch to write its
// new instance web/a.
func stoppedWithDraft(t *testing.T) (*agent, []*draft) {
	t.Helper()
	a := start(t, etcdtest.Start(t).Endpoint(), settings{view: emptyView{}})
	a.putAndAwait("first")
	a.stop()
	a.Put(instance("a"))
	batch, _ := a.nextBatch([]string{keys.Instance("web", "a")}, a.writeStep(nil), batchOps)
	return a, batch
}

// A removal between making a transaction and sending it must not be taken for the removal of
// an instance that was never written.
func TestRemoveOfADraft(t *testing.T) {
	t.Parallel()
	a, batch := stoppedWithDraft(t)
	a.Remove("web", "a")
	if err := a.write(t.Context(), batch, a.lease()); err != nil {
		t.Fatal(err)
	}
	if err := a.reconcile(t.Context(), a.lease()); err != nil {
		t.Fatal(err)
	}
	wantTombstone(t, a, "a")
}

// A write with an unknown outcome may arrive after the removal has found no record. The
// tombstone defeats it.
func TestWriteThatArrivesLate(t *testing.T) {
	t.Parallel()
	a, late := stoppedWithDraft(t)
	compares := a.compares(late)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.write(ended, late, a.lease()); err == nil {
		t.Fatal("written after its context ended")
	}
	a.Remove("web", "a")
	if err := a.reconcile(t.Context(), a.lease()); err != nil {
		t.Fatal(err)
	}
	arrived, err := a.etcd.Txn(t.Context()).If(compares...).Then(a.puts(late, a.lease())...).Commit()
	if err != nil || arrived.Succeeded {
		t.Errorf("the late write is committed: %v", err)
	}
	wantTombstone(t, a, "a")
	if _, err := a.State("web", "a"); err == nil {
		t.Error("the instance is still in the desired set")
	}
}

// A write is not repeated if only its answer was lost.
func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	link := etcdtest.StartLink(t, s.Endpoint())
	a := start(t, s.Endpoint(), settings{endpoint: link.Endpoint(), view: emptyView{}})
	a.putAndAwait("first")
	link.HoldAnswers()
	a.Put(instance("a"))
	retrytest.Eventually(t, "the write to arrive", func() bool { return modified(a, "a") != 0 })
	link.Cut()
	link.Mend()
	if s := a.awaitSettled("a"); s.Phase != PhaseWritten || !s.Created || s.Revision != modified(a, "a") {
		t.Errorf("state %+v", s)
	}
	if story := a.history("a"); story != "P" {
		t.Errorf("history %s", story)
	}
}

func TestLeave(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	link := etcdtest.StartLink(t, s.Endpoint())
	a := start(t, s.Endpoint(), settings{endpoint: link.Endpoint()})
	for n := range 150 {
		a.Put(instance(fmt.Sprint(n)))
	}
	for n := range 150 {
		a.awaitSettled(fmt.Sprint(n))
	}
	link.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := a.DeregisterAll(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without etcd: %v", err)
	}
	link.Cut()
	link.Mend()
	if err := a.DeregisterAll(bounded(t)); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 99, 100, 149} {
		wantTombstone(t, a, fmt.Sprint(n))
	}
	if err := a.DeregisterAll(t.Context()); err != nil {
		t.Errorf("with nothing: %v", err)
	}
}

// overtaken is an etcd in which something else happens before the first tombstone is written.
type overtaken struct {
	clientv3.KV
	first func()
}

func (o overtaken) Txn(ctx context.Context) clientv3.Txn {
	return overtakenTxn{o.KV.Txn(ctx), o.first}
}

// overtakenTxn is a transaction of an [overtaken] etcd.
type overtakenTxn struct {
	clientv3.Txn
	first func()
}

func (o overtakenTxn) If(conditions ...clientv3.Cmp) clientv3.Txn {
	return overtakenTxn{o.Txn.If(conditions...), o.first}
}

func (o overtakenTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	for _, op := range ops {
		if bytes.Contains(op.ValueBytes(), []byte(`"leaving":true`)) {
			o.first()
		}
	}
	return o.Txn.Then(ops...)
}

// A deregistration that another change of the key overtakes leaves no lease behind.
func TestOvertakenTombstoneLeavesNoLease(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t).Endpoint()
	client := etcdtest.Client(t, etcd)
	var a *agent
	client.KV = overtaken{client.KV, sync.OnceFunc(func() {
		kv, _ := a.kv("a")
		if _, err := a.etcd.Put(bounded(t), string(kv.Key), string(kv.Value), clientv3.WithLease(clientv3.LeaseID(kv.Lease))); err != nil {
			t.Error(err)
		}
	})}
	a = start(t, etcd, settings{client: client})
	a.putAndAwait("a")
	a.Remove("web", "a")
	if _, err := a.AwaitSettled(bounded(t), "web", "a"); err != nil {
		t.Fatal(err)
	}
	wantTombstone(t, a, "a")
	left, err := a.etcd.Leases(bounded(t))
	if err != nil || len(left.Leases) != 2 {
		t.Errorf("%d leases, want the agent's and the tombstone's; %v", len(left.Leases), err)
	}
}

// An instance in conflict is removed and put again while its key is read. The answer concerns the
// removed one, and neither the new one nor what it needs.
func TestAnswerForAnInstanceThatWasPutAgain(t *testing.T) {
	t.Parallel()
	r, _ := atRest(t, 1)
	r.mu.Lock()
	old := stateOf(r, "0000")
	old.yieldTo(discovery.Instance{Service: "web", ID: "0000", Owner: "other"}, false)
	old.suspect = true
	r.update(old)
	r.mu.Unlock()
	read := step{(*desired).needsRead, (*desired).needsRead, func(d *desired) *attempt { return &d.attempt }, nil}
	batch, _ := r.nextBatch([]string{old.key}, read, batchOps)
	r.Remove("web", "0000")
	r.Put(instance("0000"))
	successor := stateOf(r, "0000")
	if len(batch) != 1 || successor == nil || successor == old {
		t.Fatalf("a batch of %d, and %p after %p", len(batch), successor, old)
	}
	before := *successor
	answer := &clientv3.TxnResponse{Header: &etcdserverpb.ResponseHeader{Revision: 5}, Responses: []*etcdserverpb.ResponseOp{{}}}
	r.mu.Lock()
	r.observe(batch, answer)
	r.mu.Unlock()
	r.batchDone(read, batch, &refusals{})
	r.recordError(batch, errContended)
	r.mu.Lock()
	r.forget(old, 5)
	r.mu.Unlock()
	if got := stateOf(r, "0000"); got != successor || !got.due.Equal(before.due) || got.queued != before.queued || got.err != nil || !r.unconfirmed[got] {
		t.Errorf("the answer for an earlier instance made %+v of %+v", got, before)
	}
	if old.observedRevision == 5 || old.err != nil {
		t.Errorf("the answer changed the instance that has left: %+v", old)
	}
	checkInvariants(t, r)
}
