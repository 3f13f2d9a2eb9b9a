package claim

import (
	"math/rand/v2"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/view"
)

// maxCandidates are tried in one transaction.
const maxCandidates = 8

// candidate is an instance that has a free slot.
type candidate struct {
	*view.Entry
	created  int64  // its incarnation
	free     int    // slots
	slot     int    // the one to be taken
	key      string // of that slot's claim
	reserved bool   // it was noted as being asked for
}

// candidates returns the instances of a service that can be claimed, as far as is known.
func (c *Claims) candidates(s *view.Service, t *occupancy) []candidate {
	var all []candidate
	for _, e := range s.Entries() {
		created := s.Incarnation(e.ID)
		free := e.Slots - t.count[e.ID]
		if created == 0 || !e.Healthy() || free <= 0 {
			continue
		}
		all = append(all, candidate{Entry: e, created: created, free: free})
	}
	return all
}

// choose picks some of the candidates to be tried in turn, each the freer of two that
// are drawn at random: those of the preferred zone first, those of weight 0 last. It
// returns them with a slot each.
func (c *Claims) choose(all []candidate, t *occupancy, zone string) []candidate {
	taking := map[string]int{}
	for key := range t.reserved {
		if _, counted := t.keys[key]; !counted {
			_, id, _ := c.keys.Claimed(key)
			taking[id]++
		}
	}
	tiers := make([][]candidate, 3)
	for _, a := range all {
		a.free -= taking[a.ID]
		switch {
		case a.Weight == 0:
			tiers[2] = append(tiers[2], a)
		case zone != "" && a.Zone != zone:
			tiers[1] = append(tiers[1], a)
		default:
			tiers[0] = append(tiers[0], a)
		}
	}
	var chosen []candidate
	for _, tier := range tiers {
		for len(tier) > 0 && len(chosen) < maxCandidates {
			n := rand.IntN(len(tier))
			if m := rand.IntN(len(tier)); tier[m].free > tier[n].free {
				n = m
			}
			if a := tier[n]; c.pickSlot(&a, t) {
				chosen = append(chosen, a)
			}
			tier[n] = tier[len(tier)-1]
			tier = tier[:len(tier)-1]
		}
	}
	// What this agent is taking already is tried only when all else is gone.
	slices.SortStableFunc(chosen, func(a, b candidate) int { return contention(a, t) - contention(b, t) })
	return chosen
}

// contention is 1 for a slot that this agent is taking already.
func contention(a candidate, t *occupancy) int {
	if _, ok := t.reserved[a.key]; ok {
		return 1
	}
	return 0
}

// pickSlot picks a free slot, from a random one on; rather one that this agent is not
// taking already.
func (c *Claims) pickSlot(a *candidate, t *occupancy) bool {
	from, found := rand.IntN(a.Slots), false
	for n := range a.Slots {
		slot := (from + n) % a.Slots
		key := c.keys.Claim(a.Service, a.ID, slot)
		if _, ok := t.keys[key]; ok {
			continue
		}
		_, reserved := t.reserved[key]
		if !reserved || !found {
			a.slot, a.key, found = slot, key, true
		}
		if !reserved {
			break
		}
	}
	return found
}

// buildAttempt builds the transaction that takes the slot of the first candidate for which the
// instance is the same and the slot free. When there is none, it reads what is taken.
func (c *Claims) buildAttempt(txn clientv3.Txn, chosen []candidate, value string, lease clientv3.LeaseID, prefix string) clientv3.Txn {
	orElse := clientv3.OpGet(prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	for n, a := range slices.Backward(chosen) {
		same, put := a.operations(c.keys, value, lease)
		if n == 0 {
			return txn.If(same...).Then(put).Else(orElse)
		}
		orElse = clientv3.OpTxn(same, []clientv3.Op{put}, []clientv3.Op{orElse})
	}
	return txn.Then(orElse)
}

// operations is under which conditions, and how, a slot is taken.
func (a *candidate) operations(keys discovery.Keys, value string, lease clientv3.LeaseID) ([]clientv3.Cmp, clientv3.Op) {
	record := keys.Instance(a.Service, a.ID)
	if a.Source == view.SourceStatic {
		record = keys.Static(a.Service, a.ID)
	}
	return []clientv3.Cmp{
		clientv3.Compare(clientv3.CreateRevision(record), "=", a.created),
		clientv3.Compare(clientv3.CreateRevision(a.key), "=", 0),
	}, clientv3.OpPut(a.key, value, clientv3.WithLease(lease))
}

// parseAttempt reads the answer to an attempt: which candidate's slot was taken, or what is
// taken of all.
func (c *Claims) parseAttempt(r *clientv3.TxnResponse, chosen []candidate) (won *candidate, read *occupancy) {
	for n := range chosen {
		if r.Succeeded {
			return &chosen[n], nil
		}
		if inner := r.Responses[0].GetResponseTxn(); inner != nil {
			r = (*clientv3.TxnResponse)(inner)
		}
	}
	read = newOccupancy()
	for _, kv := range r.Responses[0].GetResponseRange().GetKvs() {
		if _, id, ok := c.keys.Claimed(string(kv.Key)); ok {
			read.add(id, string(kv.Key), kv.ModRevision)
		}
	}
	return nil, read
}
