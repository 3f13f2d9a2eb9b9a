package claim

import (
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/devetcd/etcdtest"
)

// One transaction tries all candidates, each only if its instance is the incarnation that was
// seen, and reads the claims when it gets no slot.
func TestCandidatesInOneTransaction(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := startClaimant(t, "a", etcd.Endpoint())
	for n := range maxCandidates + 2 {
		register(t, a.agent.Client, fmt.Sprintf("gpu-%d", n), 1)
	}
	a.sees("gpu", maxCandidates+2)
	seen, err := a.service("gpu")
	if err != nil {
		t.Fatal(err)
	}
	chosen := a.choose(a.candidates(seen, newOccupancy()), newOccupancy(), "")
	if len(chosen) != maxCandidates {
		t.Fatalf("%d candidates, want %d", len(chosen), maxCandidates)
	}
	last := len(chosen) - 1
	if _, err := a.agent.Client.Delete(etcdtest.Context(t), keys.Instance("gpu", chosen[0].ID)); err != nil {
		t.Fatal(err)
	}
	register(t, a.agent.Client, chosen[0].ID, 1) // another, under the same id
	for _, taken := range chosen[1:last] {
		if _, err := a.agent.Client.Put(etcdtest.Context(t), taken.key, `{"id":"somebody"}`); err != nil {
			t.Fatal(err)
		}
	}
	pending, err := a.issuer.Request(etcdtest.Context(t), "gpu", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer pending.Abandon()
	attempt := func() (*candidate, *occupancy) {
		r, err := pending.Transact(etcdtest.Context(t), func(int64) clientv3.Op {
			return a.buildAttempt(chosen, `{"id":"me"}`, pending.Lease(), keys.ClaimsOf("gpu"))
		})
		if err != nil {
			t.Fatal(err)
		}
		return a.parseAttempt(r, chosen)
	}
	if won, _ := attempt(); won != &chosen[last] {
		t.Errorf("won %+v, want the last of %d, which alone is free", won, len(chosen))
	}
	won, read := attempt()
	if won != nil || len(read.keys) != last || read.count[chosen[last].ID] != 1 || read.count[chosen[0].ID] != 0 {
		t.Errorf("won %+v where nothing is free, and read %+v", won, read)
	}
}
