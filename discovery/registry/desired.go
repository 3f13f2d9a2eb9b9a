package registry

import (
	"cmp"
	"reflect"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/view"
)

// Phase is how far an instance is on its way into etcd.
type Phase string

// The phases.
const (
	Pending    Phase = "pending"  // not in etcd as wanted yet
	Written    Phase = "written"  // in etcd as wanted
	InConflict Phase = "conflict" // another owner's record stands there
	Leaving    Phase = "leaving"  // saying goodbye
)

// State is how an instance stands.
type State struct {
	Phase    Phase
	Instance discovery.Instance // as wanted, with the status it was written with
	Revision int64              // etcd's revision of the last write; 0: none
	Created  bool               // the last write made a record where none was
	Err      error              // why it is not written: a *[discovery.ConflictError], or etcd's last error
}

// desired is one wanted instance and what is known of its key.
type desired struct {
	key        string
	release    func()             // of its service, which is kept in the view
	instance   discovery.Instance // status empty: not known yet
	generation int                // counts the wishes
	leaving    bool

	outcomeUnknown    bool             // a write was made whose outcome is not known: it may yet arrive
	observed          bool             // this run has written or read the key
	observedRevision  int64            // etcd's revision when it was last written or read
	modRevision       int64            // the key's mod revision as last seen; 0: absent
	lease             clientv3.LeaseID // the key's lease as last written
	writtenGeneration int              // version that is in etcd; 0: none
	created           bool             // the last write made a record where none was
	suspect           bool             // read the key back before trusting the above
	refused           bool             // by etcd, in this pass
	conflict          *discovery.ConflictError
	err               error
	rewrites          int // how often another run of this owner rewrote the record
	lastRewrite       time.Time

	load loadState
}

// set takes a new wish. What was learnt of status and registration stays, unless the
// wish says otherwise.
func (it *desired) set(i discovery.Instance) {
	before, left := it.instance, it.leaving
	it.instance, it.leaving = i, false
	it.conflict = nil // whoever asks again wants to know anew
	it.adopt(before)
	if left {
		it.load.reportedAt, it.load.outcomeUnknown = time.Time{}, true // the goodbye may take it along
	}
	if it.generation == 0 || left || !reflect.DeepEqual(it.instance, before) {
		it.generation++
	}
}

// state is how the instance stands while current is the session's lease.
func (it *desired) state(current clientv3.LeaseID) State {
	s := State{Phase: Pending, Instance: it.instance, Revision: it.modRevision, Created: it.created, Err: it.err}
	switch {
	case it.leaving:
		s.Phase = Leaving
	case it.conflict != nil:
		s.Phase, s.Err = InConflict, it.conflict
	case it.writtenGeneration == it.generation && it.modRevision != 0 && it.lease == current:
		s.Phase, s.Err = Written, nil
	}
	return s
}

// mayExistInEtcd reports whether a record of this agent may be in etcd, now or soon, so that
// it has to say goodbye: what this run has not written yet, an earlier one may have.
func (it *desired) mayExistInEtcd() bool { return it.conflict == nil }

// needsRead reports whether the key has to be read. What leaves and is not there may need
// no goodbye.
func (it *desired) needsRead() bool {
	return it.suspect || it.leaving && it.modRevision == 0 && !it.outcomeUnknown
}

// needsTombstone reports whether a goodbye has to be put: over the record or, where a write may
// yet arrive, in its way, since that compares what it overwrites.
func (it *desired) needsTombstone() bool {
	return it.leaving && !it.suspect && (it.modRevision != 0 || it.outcomeUnknown)
}

// needsWrite reports whether the key has to be written under a lease.
func (it *desired) needsWrite(current clientv3.LeaseID) bool {
	if it.leaving || it.suspect || it.conflict != nil {
		return false
	}
	return it.modRevision == 0 || it.writtenGeneration != it.generation || it.lease != current
}

// unreadIn reports whether a snapshot has a record of which nothing is known yet: reading
// it first is cheaper for etcd than a write that loses its compare.
func (it *desired) unreadIn(s *view.Snapshot) bool {
	return it.observedRevision == 0 && it.recordIn(s) != nil
}

// recordIn returns the record that a snapshot shows; nil: none.
func (it *desired) recordIn(s *view.Snapshot) *view.Record {
	service, ok := s.Service(it.instance.Service)
	if !ok {
		return nil
	}
	record, _ := service.Record(it.instance.ID)
	return record
}

// contradictedBy reports whether a snapshot shows something else than was last seen.
func (it *desired) contradictedBy(s *view.Snapshot) bool {
	if it.observedRevision == 0 || s.Revision() < it.observedRevision {
		return false
	}
	record := it.recordIn(s)
	if it.conflict != nil {
		return record == nil || record.Leaving || record.Owner != it.conflict.Owner
	}
	return it.modRevision != 0 && (record == nil || record.Modified != it.modRevision)
}

// newRecord is the instance to write: a status that is not known yet is critical.
func (it *desired) newRecord(now time.Time) discovery.Instance {
	if it.instance.RegisteredAt.IsZero() {
		it.instance.RegisteredAt = now.UTC().Truncate(time.Millisecond)
	}
	i := it.instance
	i.Status = cmp.Or(i.Status, discovery.Critical)
	i.Checks = slices.Clone(i.Checks)
	for n := range i.Checks {
		i.Checks[n].Status = cmp.Or(i.Checks[n].Status, discovery.Critical)
	}
	i.Leaving = it.leaving
	return i
}

// observe takes in what etcd holds under the key at a revision, and decides whose it is.
func (it *desired) observe(kv *mvccpb.KeyValue, at int64, who Identity, now time.Time, ttl time.Duration) {
	it.suspect, it.observedRevision, it.conflict = false, at, nil
	it.load.outcomeUnknown = true // who altered the record may have altered its report
	if kv == nil {
		it.modRevision, it.writtenGeneration = 0, 0
		return
	}
	i, err := discovery.DecodeInstance(kv.Value)
	switch {
	case err != nil: // nobody can read it: nobody's
	case i.Owner == who.Owner && i.Run == who.Run: // as it was written, or altered
	case it.leaving && (it.observed || i.Owner != who.Owner || i.Leaving): // a successor's
		it.yieldTo(i, false)
		return
	case i.Leaving:
	case i.Owner != who.Owner:
		it.yieldTo(i, false)
		return
	case it.countRewrite(now, ttl):
		it.yieldTo(i, true)
		return
	default:
		it.adopt(i)
	}
	if it.modRevision != kv.ModRevision {
		it.writtenGeneration = 0 // what stands there is not what was written
	}
	it.modRevision, it.observed = kv.ModRevision, true
}

// yieldTo leaves the key to another.
func (it *desired) yieldTo(to discovery.Instance, cloned bool) {
	it.conflict = &discovery.ConflictError{Service: to.Service, ID: to.ID, Node: to.Node, Owner: to.Owner, Cloned: cloned}
	it.modRevision, it.writtenGeneration = 0, 0
}

// countRewrite counts that another run of the same owner wrote over this run's record, and
// reports whether it did so twice within a TTL.
func (it *desired) countRewrite(now time.Time, ttl time.Duration) bool {
	if !it.observed {
		return false // the record of an earlier run
	}
	if now.Sub(it.lastRewrite) > ttl {
		it.rewrites = 0
	}
	it.rewrites++
	it.lastRewrite = now
	return it.rewrites >= 2
}

// adopt takes over what was registered before, by this run or an earlier one: since
// when, and the status as long as the checks have not spoken.
func (it *desired) adopt(earlier discovery.Instance) {
	if it.instance.RegisteredAt.IsZero() || !earlier.RegisteredAt.IsZero() {
		it.instance.RegisteredAt = earlier.RegisteredAt
	}
	if it.instance.Status != "" || earlier.Status == "" {
		return
	}
	was := map[string]discovery.Status{}
	for _, c := range earlier.Checks {
		was[c.ID] = c.Status
	}
	checks := make([]discovery.CheckStatus, len(it.instance.Checks))
	for n, c := range it.instance.Checks {
		if s, ok := was[c.ID]; ok && c.Status == "" {
			c.Status = s
		}
		checks[n] = c
	}
	it.instance.Checks, it.instance.Status = checks, earlier.Status
}
