package claim

import (
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/devetcd/etcdtest"
)

// One transaction tries all candidates, each only if it is the same instance as was seen,
// and reads what is taken when it gets none.
func TestCandidatesInOneTransaction(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := startClaimant(t, "a", etcd.Endpoint())
	for n := range maxCandidates + 2 {
		register(t, a.client, fmt.Sprintf("gpu-%d", n), 1)
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
	if _, err := a.client.Delete(patient(t), keys.Instance("gpu", chosen[0].ID)); err != nil {
		t.Fatal(err)
	}
	register(t, a.client, chosen[0].ID, 1) // another, under the same id
	for _, taken := range chosen[1:last] {
		if _, err := a.client.Put(patient(t), taken.key, `{"id":"somebody"}`); err != nil {
			t.Fatal(err)
		}
	}
	session, _ := a.session.Lease()
	attempt := func() (*candidate, *occupancy) {
		r, err := a.transact(patient(t), KindClaim, func(txn clientv3.Txn) clientv3.Txn {
			return a.buildAttempt(txn, chosen, `{"id":"me"}`, session.ID, keys.ClaimsOf("gpu"))
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
