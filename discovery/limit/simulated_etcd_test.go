package limit

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"disc/discovery"
)

// simulatedEtcd is an etcd of two keys, a limit's policy and its ledger.
type simulatedEtcd struct {
	revision      int64
	epoch         int   // of its life
	epochRevision int64 // at which that was written
	policy        Policy
	ledger        storedLedger
	log           []change // the events of a watch of both
}

// change is a write or deletion of a key.
type change struct {
	isLedger bool
	ledger   storedLedger // the zero value: deleted
	policy   Policy       // without a Created: deleted
}

func (s *simulatedEtcd) putPolicy(limit discovery.Limit) {
	s.revision++
	if s.policy.Created == 0 {
		s.policy = Policy{Created: s.revision}
		s.putLedger(openLedger("admin"), s.revision)
	}
	s.policy.Limit, s.policy.Revision = limit, s.revision
	s.log = append(s.log, change{policy: s.policy})
}

func (s *simulatedEtcd) deletePolicy() {
	s.revision++
	s.policy, s.ledger = Policy{Revision: s.revision}, storedLedger{}
	s.log = append(s.log, change{policy: s.policy}, change{isLedger: true})
}

func (s *simulatedEtcd) deleteLedger() {
	s.revision++
	s.ledger = storedLedger{}
	s.log = append(s.log, change{isLedger: true})
}

func (s *simulatedEtcd) putLedger(l ledger, revision int64) {
	value, err := json.Marshal(l)
	if err != nil {
		panic(err)
	}
	created := s.ledger.createRevision
	if created == 0 {
		created = revision
	}
	s.ledger = decodeLedger(value, created, revision)
	s.log = append(s.log, change{isLedger: true, ledger: s.ledger})
}

// commit commits a purchase, if its compares succeed.
func (s *simulatedEtcd) commit(p purchase) (storedLedger, bool) {
	same := s.ledger.modRevision == p.seenLedger.modRevision && s.ledger.value == p.seenLedger.value
	if !same || s.policy.Created == 0 || s.policy.Revision != p.policyRevision || fmt.Sprint(s.epoch) != p.epoch {
		return storedLedger{}, false
	}
	s.revision++
	s.putLedger(p.nextLedger, s.revision)
	return s.ledger, true
}

// restoreFrom restores a backup. The revisions after it are used again, for other changes;
// the restore is found out, and a new life begins.
func (s *simulatedEtcd) restoreFrom(backup simulatedEtcd) {
	epoch := s.epoch + 1
	*s = backup
	s.log = slices.Clone(backup.log)
	s.revision++
	s.epoch, s.epochRevision = epoch, s.revision
}

// scheduler runs functions in simulated time.
type scheduler struct {
	now    time.Duration
	events []event // by time; those of the same time in the order in which they were added
}

type event struct {
	at time.Duration
	do func()
}

// after runs f after a delay.
func (s *scheduler) after(delay time.Duration, f func()) {
	at := s.now + max(0, delay)
	n, _ := slices.BinarySearchFunc(s.events, at, func(e event, at time.Duration) int {
		if e.at <= at {
			return -1
		}
		return 1
	})
	s.events = slices.Insert(s.events, n, event{at, f})
}

// run simulates up to a time, or until enough is true.
func (s *scheduler) run(until time.Duration, enough func() bool) {
	for len(s.events) > 0 && s.events[0].at <= until && !enough() {
		e := s.events[0]
		s.events = s.events[1:]
		s.now = e.at
		e.do()
	}
	if !enough() {
		s.now = until
	}
}

// forever is never enough.
func forever() bool { return false }
