package claim

import (
	"math/rand/v2"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/view"
)

// maxCandidates is the largest number of candidates that one transaction tries.
const maxCandidates = 8

// candidate is an instance that has a free slot.
type candidate struct {
	*view.Entry
	incarnation int64
	free        int    // number of free slots
	slot        int    // the slot to claim
	key         string // of that slot's claim
	reserved    bool   // the slot is reserved for this attempt
}

// candidates returns the healthy instances of a service that have a free slot according to o.
func (c *Claims) candidates(s *view.Service, o *occupancy) []candidate {
	var all []candidate
	for _, e := range s.Entries() {
		incarnation := s.Incarnation(e.ID)
		free := e.Slots - o.count[e.ID]
		if incarnation == 0 || !e.Healthy() || free <= 0 {
			continue
		}
		all = append(all, candidate{Entry: e, incarnation: incarnation, free: free})
	}
	return all
}

// choose returns up to maxCandidates of the candidates, each with a slot, in the order in
// which they are tried: the preferred zone first, weight 0 last, and within that each the
// one with more free slots of two drawn at random.
func (c *Claims) choose(all []candidate, o *occupancy, zone string) []candidate {
	reserved := map[string]int{} // slots that are reserved and not yet counted, by instance
	for key := range o.reserved {
		if _, counted := o.keys[key]; !counted {
			_, id, _ := c.keys.ParseClaim(key)
			reserved[id]++
		}
	}
	tiers := make([][]candidate, 3)
	for _, a := range all {
		a.free -= reserved[a.ID]
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
			if a := tier[n]; c.pickSlot(&a, o) {
				chosen = append(chosen, a)
			}
			tier[n] = tier[len(tier)-1]
			tier = tier[:len(tier)-1]
		}
	}
	// A slot that is reserved by another caller of this agent is tried last.
	slices.SortStableFunc(chosen, func(a, b candidate) int {
		return boolToInt(o.isReserved(a.key)) - boolToInt(o.isReserved(b.key))
	})
	return chosen
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// pickSlot picks a free slot of a, starting at a random one, and reports whether there is
// one. It prefers a slot that is not reserved.
func (c *Claims) pickSlot(a *candidate, o *occupancy) bool {
	from, found := rand.IntN(a.Slots), false
	for n := range a.Slots {
		slot := (from + n) % a.Slots
		key := c.keys.Claim(a.Service, a.ID, slot)
		if _, ok := o.keys[key]; ok {
			continue
		}
		reserved := o.isReserved(key)
		if !reserved || !found {
			a.slot, a.key, found = slot, key, true
		}
		if !reserved {
			break
		}
	}
	return found
}

// buildAttempt builds a transaction that claims the slot of the first candidate whose slot is
// free and whose instance is the incarnation that was seen. If there is none, the
// transaction reads the service's claims.
func (c *Claims) buildAttempt(chosen []candidate, value string, lease clientv3.LeaseID, prefix string) clientv3.Op {
	attempt := clientv3.OpGet(prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if len(chosen) == 0 {
		return clientv3.OpTxn(nil, []clientv3.Op{attempt}, nil)
	}
	for _, a := range slices.Backward(chosen) {
		conditions, put := a.claimOps(c.keys, value, lease)
		attempt = clientv3.OpTxn(conditions, []clientv3.Op{put}, []clientv3.Op{attempt})
	}
	return attempt
}

// claimOps returns the conditions under which the slot can be claimed, and the operation that
// claims it.
func (a *candidate) claimOps(keys discovery.Keys, value string, lease clientv3.LeaseID) ([]clientv3.Cmp, clientv3.Op) {
	record := keys.Instance(a.Service, a.ID)
	if a.Source == view.SourceStatic {
		record = keys.Static(a.Service, a.ID)
	}
	return []clientv3.Cmp{
		clientv3.Compare(clientv3.CreateRevision(record), "=", a.incarnation),
		clientv3.Compare(clientv3.CreateRevision(a.key), "=", 0),
	}, clientv3.OpPut(a.key, value, clientv3.WithLease(lease))
}

// parseAttempt returns the candidate whose slot an attempt has claimed, or the occupancy that
// it has read.
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
		if _, id, ok := c.keys.ParseClaim(string(kv.Key)); ok {
			read.add(id, string(kv.Key), kv.ModRevision)
		}
	}
	return nil, read
}
