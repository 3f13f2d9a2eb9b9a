package registry

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// countedTxns counts the transactions of an agent.
type countedTxns struct {
	clientv3.KV
	txns *atomic.Int64
}

func (c countedTxns) Txn(ctx context.Context) clientv3.Txn {
	c.txns.Add(1)
	return c.KV.Txn(ctx)
}

// An agent that may not read its own service and node, or not any more, takes its records for
// neither removed nor changed: each change of another costs no read and no write.
func TestViewWithoutItsOwnScopes(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t).Endpoint()
	client, txns := etcdtest.Client(t, etcd), new(atomic.Int64)
	client.KV = countedTxns{client.KV, txns}
	s := watchView(t, etcdtest.Client(t, etcd))
	a := start(t, etcd, settings{client: client, view: s})
	a.putAndAwait("a")
	a.putAndAwait("b") // the node's record follows those of a
	s.mu.Lock()
	s.without = []discovery.Scope{serviceScope("web"), {Node: "here"}}
	s.mu.Unlock()
	before := txns.Load()
	const changes = 5
	for n := range changes {
		i := instance("a")
		i.Weight = n + 2
		a.put("elsewhere", foreign("elsewhere", "other", "run", fmt.Sprintf(`,"weight":%d`, n+1)))
		a.Put(i)
		got := a.awaitSettled("a")
		if got.Phase != PhaseWritten {
			t.Fatalf("a is %+v", got)
		}
		retrytest.Eventually(t, "a comparison with the view", func() bool {
			a.mu.Lock()
			defer a.mu.Unlock()
			return a.compared.Revision() >= got.Revision
		})
	}
	if n := txns.Load() - before; n > changes {
		t.Errorf("%d transactions, want one for each change of the agent's own", n)
	}
}

// The instances of a service that the view does not have cost a change of another nothing: the view is
// asked once for the service.
func TestWorkOfAChangeBesideAHiddenService(t *testing.T) {
	t.Parallel()
	const n = 1000
	r, s := atRest(t, n)
	s.mu.Lock()
	s.without = []discovery.Scope{serviceScope("web")}
	s.mu.Unlock()
	s.show(3) // without the service
	pass(t, r)
	want := func(what string, unconfirmed, asked int) {
		t.Helper()
		before := s.asked
		r.findUnconfirmed(s.now(), false)
		if got := len(r.unconfirmed); got != unconfirmed {
			t.Errorf("%s %d instances are compared with the view, want %d", what, got, unconfirmed)
		}
		pass(t, r)
		if got := s.asked - before - 1; got > asked {
			t.Errorf("%s the view is asked %d times, want at most %d", what, got, asked)
		}
	}
	for revision := int64(4); revision < 7; revision++ {
		s.show(revision, changeOf("other", revision))
		want("after a change of another service", 0, 2)
	}
	if err := r.ReportLoad("web", "0004", 0.5); err != nil {
		t.Fatal(err)
	}
	r.desired[keys.Instance("web", "0004")].load.attemptedAt = time.Now().Add(time.Hour) // not to be written now
	r.update(stateOf(r, "0004"))
	want("after a change here", 1, 3)
	r.forget(stateOf(r, "0005"), 7)
	s.mu.Lock()
	s.without = nil
	s.mu.Unlock()
	s.show(8, changeOf("other", 8))
	r.findUnconfirmed(s.now(), false)
	if len(r.unconfirmed) != n-1 || len(r.hidden) != 0 {
		t.Errorf("once the view has the service %d instances are compared with it and %d services wait, want %d and none", len(r.unconfirmed), len(r.hidden), n-1)
	}
	r.compareWithView(session)
	for _, d := range r.desired {
		if !d.suspect {
			t.Fatalf("%s is not suspect, although the view has its service and no record", d.key)
		}
	}
	checkInvariants(t, r)
}
