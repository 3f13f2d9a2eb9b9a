package limit

import "fmt"

// store is an etcd of two keys, whose transactions are in a row.
type store struct {
	revision       int64
	policyRevision int64
	policy         []byte
	ledger         version
	log            []change // what the watch tells, of a ledger and a policy
}

// change is a key at a revision.
type change struct {
	revision int64
	isLedger bool
	ledger   version // the zero value: deleted
	policy   []byte  // nil: deleted
}

func (s *store) put(c change) {
	s.revision++
	c.revision = s.revision
	if c.isLedger {
		if c.ledger.value != "" {
			c.ledger.modified = s.revision
			if c.ledger.created == 0 {
				c.ledger.created = s.revision
			}
		}
		s.ledger = c.ledger
	} else {
		s.policy, s.policyRevision = c.policy, s.revision
	}
	s.log = append(s.log, c)
}

// commit is a purchase.
func (s *store) commit(o order) (version, bool) {
	seen := s.ledger.modified == o.seen.modified && s.ledger.value == o.seen.value
	if !seen || s.policy == nil || s.policyRevision != o.policy {
		return version{}, false
	}
	s.put(change{isLedger: true, ledger: version{ledger: o.next, value: fmt.Sprint(o.next), created: s.ledger.created}})
	return s.ledger, true
}
