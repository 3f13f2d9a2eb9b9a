package limit

import "fmt"

// simulatedEtcd is an etcd of two keys, whose transactions are in a row.
type simulatedEtcd struct {
	revision       int64
	policyRevision int64
	policy         []byte
	ledger         storedLedger
	log            []change // what the watch tells, of a ledger and a policy
}

// change is a key at a revision.
type change struct {
	revision int64
	isLedger bool
	ledger   storedLedger // the zero value: deleted
	policy   []byte       // nil: deleted
}

func (s *simulatedEtcd) put(c change) {
	s.revision++
	c.revision = s.revision
	if c.isLedger {
		if c.ledger.value != "" {
			c.ledger.modRevision = s.revision
			if c.ledger.createRevision == 0 {
				c.ledger.createRevision = s.revision
			}
		}
		s.ledger = c.ledger
	} else {
		s.policy, s.policyRevision = c.policy, s.revision
	}
	s.log = append(s.log, c)
}

// commit is a purchase.
func (s *simulatedEtcd) commit(o purchase) (storedLedger, bool) {
	seen := s.ledger.modRevision == o.seenLedger.modRevision && s.ledger.value == o.seenLedger.value
	if !seen || s.policy == nil || s.policyRevision != o.policyRevision {
		return storedLedger{}, false
	}
	s.put(change{isLedger: true, ledger: storedLedger{ledger: o.nextLedger, value: fmt.Sprint(o.nextLedger), createRevision: s.ledger.createRevision}})
	return s.ledger, true
}
