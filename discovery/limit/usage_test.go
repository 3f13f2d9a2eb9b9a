package limit

import (
	"testing"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// What all agents have bought is counted, and those that wait in this process.
func TestUsage(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	one, two := start(t, etcdtest.Client(t, etcd.Endpoint())), start(t, etcdtest.Client(t, etcd.Endpoint()))
	mustPut(t, one, "api", policy(1, 100))
	mustPut(t, one, "unused", policy(1, 1))
	mustTake(t, one, "api", 20)
	mustTake(t, two, "api", 30)
	retrytest.Eventually(t, "what both have bought", func() bool {
		all, err := one.Usage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return all["api"].Bought >= 50 && all["api"].Waiting == 0 && all["unused"] == Usage{} && len(all) == 2
	})

	idle := etcdtest.Must(New(etcdtest.Client(t, etcd.Endpoint()), keys, Options{})) // it buys nothing for those that wait
	busy := &purchaser{account: newAccount("busy")}
	busy.account.enqueue(newWaiter(1))
	busy.account.enqueue(newWaiter(5))
	idle.purchasers.Store(&map[string]*purchaser{"api": busy, "gone": busy})
	if all, err := idle.Usage(t.Context()); err != nil || all["api"].Waiting != 2 || len(all) != 2 {
		t.Errorf("the usage is %+v, %v; want 2 that wait for api", all, err)
	}

	if _, err := etcdtest.Client(t, etcd.Endpoint()).Put(t.Context(), keys.Ledger("api"), "{"); err != nil {
		t.Fatal(err)
	}
	if all, err := one.Usage(t.Context()); err != nil || all["api"].Bought != 0 {
		t.Errorf("with a ledger that cannot be read the usage is %+v, %v", all, err)
	}
}
