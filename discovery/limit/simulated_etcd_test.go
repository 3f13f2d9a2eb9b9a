package limit

import "fmt"

// simulatedEtcd is an etcd of two keys, a limit's policy and its ledger.
type simulatedEtcd struct {
	revision       int64
	policyRevision int64
	policy         []byte
	ledger         storedLedger
	log            []change // the events of a watch of both
}

// change is a write or deletion of a key at a revision.
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

// commit commits a purchase, if its compares succeed.
func (s *simulatedEtcd) commit(p purchase) (storedLedger, bool) {
	same := s.ledger.modRevision == p.seenLedger.modRevision && s.ledger.value == p.seenLedger.value
	if !same || s.policy == nil || s.policyRevision != p.policyRevision {
		return storedLedger{}, false
	}
	s.put(change{isLedger: true, ledger: storedLedger{ledger: p.nextLedger, value: fmt.Sprint(p.nextLedger), createRevision: s.ledger.createRevision}})
	return s.ledger, true
}
