package registry

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

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
