package registry

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/retry/retrytest"
)

// syncedBuffer is a buffer that goroutines write and read.
type syncedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// instancesOf returns the prefix of the keys of a service's instances.
func instancesOf(service string) string { return strings.TrimSuffix(keys.Instance(service, "a"), "a") }

// awaitRefusedLoad waits until etcd has refused an instance's load report.
func (a *agent) awaitRefusedLoad(id string) {
	a.t.Helper()
	retrytest.Eventually(a.t, "a refusal of the load report", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		d := stateOf(a.Registry, id)
		return d.load.attempt.refused > 0 && errors.Is(d.err, rpctypes.ErrPermissionDenied)
	})
}

// An instance whose load reports etcd refuses leaves as any other.
func TestRemoveWithRefusedLoad(t *testing.T) {
	t.Parallel()
	a, _ := restricted(t, instancesOf("web"))
	a.putAndAwait("a")
	a.report("a", 0.5)
	a.awaitRefusedLoad("a")
	retrytest.Eventually(t, "no report to count as in etcd", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		l := stateOf(a.Registry, "a").load
		return !l.sent && l.lease == 0 && !l.outcomeUnknown && l.attemptedAt.IsZero()
	})
	a.Remove("web", "a")
	a.awaitSettled("a")
	wantTombstone(t, a, "a")
}

// An instance leaves also when the permission for its load report ended after the report was written.
func TestRemoveWithLoadThatBecameForbidden(t *testing.T) {
	t.Parallel()
	a, root := restricted(t, keys.Service("web"))
	a.putAndAwait("a")
	a.report("a", 0.5)
	retrytest.Eventually(t, "the report", func() bool { return a.load("a") != "" })
	narrow(t, root, keys.Service("web"), instancesOf("web"))
	a.Remove("web", "a")
	a.awaitSettled("a")
	wantTombstone(t, a, "a")
	if a.load("a") == "" {
		t.Error("the report has gone, which etcd did not permit")
	}
}

// A load report that etcd refuses holds up no other of its batch, and the log says why.
func TestRefusedLoadHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	log := new(syncedBuffer)
	a, root := restrictedLogging(t, log, instancesOf("web"), keys.Service("db"))
	a.putAndAwait("a")
	db := instance("a")
	db.Service = "db"
	a.Put(db)
	if s, err := a.AwaitSettled(bounded(t), "db", "a"); err != nil || s.Phase != PhaseWritten {
		t.Fatalf("db/a is %+v, %v", s, err)
	}
	a.mu.Lock() // both reports are in one batch
	for _, d := range a.desired {
		d.load.utilization, d.load.reportedAt = 0.5, time.Now()
		a.update(d)
	}
	a.mu.Unlock()
	a.wake.Notify()
	retrytest.Eventually(t, "the report of db", func() bool {
		r, err := root.Get(bounded(t), keys.Load("db", "a"))
		return err == nil && len(r.Kvs) == 1 && clientv3.LeaseID(r.Kvs[0].Lease) == a.lease()
	})
	a.awaitRefusedLoad("a")
	retrytest.Eventually(t, "the reason in the log", func() bool {
		return strings.Contains(log.String(), "write load of web/a: etcdserver: permission denied")
	})
}
