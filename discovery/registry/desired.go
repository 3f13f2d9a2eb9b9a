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

// Phase says how far an instance's registration is.
type Phase string

// The phases.
const (
	PhasePending  Phase = "pending"  // not in etcd as desired yet
	PhaseWritten  Phase = "written"  // in etcd as desired
	PhaseConflict Phase = "conflict" // another owner has the key
	PhaseLeaving  Phase = "leaving"  // removed; its tombstone is not written yet
)

// State is the state of an instance's registration.
type State struct {
	Phase    Phase
	Instance discovery.Instance // as desired, with the status that was written
	Revision int64              // etcd's revision of the last write; 0: none
	Created  bool               // the last write created the record
	Err      error              // why it is not written: a *[discovery.ConflictError] or the last error of etcd
}

// desired is the desired state of one instance, and the observed state of its key.
type desired struct {
	key        string
	release    func()             // ends the retention of its service in the view
	hideOutput bool               // the record lacks the outputs of checks
	instance   discovery.Instance // an empty status is not known yet
	generation int                // counts the changes of the desired state
	leaving    bool               // removed; its record is to become a tombstone

	outcomeUnknown    bool             // a write may still arrive at etcd
	observed          bool             // this run has written or read the key
	observedRevision  int64            // etcd's revision when it did so last; 0: never
	modRevision       int64            // the key's, as last seen; 0: the key does not exist
	lease             clientv3.LeaseID // the key's lease as last written
	writtenGeneration int              // the generation that is in etcd; 0: none
	created           bool             // the last write created the record
	suspect           bool             // the observed state may be wrong: read the key before any write
	attempt           attempt          // the next, of reading or writing the key
	conflict          *discovery.ConflictError
	err               error
	rewrites          int // by another run of this owner; see countRewrite
	lastRewrite       time.Time

	load loadState

	due     time.Time // when it needs work; zero: it does not. Set by [workQueue.set]
	queued  int       // its place in the queue, from 1 on; 0: it is not in it
	counted Phase     // in the metrics; "": not yet
}

// set sets the desired state. It keeps the status and the registration time observed
// before, unless i gives others. With asked it forgets a conflict and the backoff: a caller that
// asks again wants a new answer.
func (d *desired) set(i discovery.Instance, asked bool) {
	before, left := d.instance, d.leaving
	d.instance, d.leaving = i, false
	if asked || left {
		d.conflict = nil
		d.attempt.restart()
	}
	d.adopt(before)
	if left {
		d.load.reportedAt, d.load.outcomeUnknown = time.Time{}, true // the tombstone's transaction may delete the report
	}
	d.dropHiddenOutputs()
	if d.generation == 0 || left || !reflect.DeepEqual(d.instance, before) {
		d.generation++
	}
}

// state returns the instance's state while current is the session's lease.
func (d *desired) state(current clientv3.LeaseID) State {
	s := State{Phase: d.phase(current), Instance: d.instance, Revision: d.modRevision, Created: d.created, Err: d.err}
	switch s.Phase {
	case PhaseConflict:
		s.Err = d.conflict
	case PhaseWritten:
		s.Err = nil
	}
	return s
}

// phase returns the instance's phase while current is the session's lease.
func (d *desired) phase(current clientv3.LeaseID) Phase {
	switch {
	case d.leaving:
		return PhaseLeaving
	case d.conflict != nil:
		return PhaseConflict
	case d.writtenGeneration == d.generation && d.modRevision != 0 && d.lease == current:
		return PhaseWritten
	}
	return PhasePending
}

// mayExistInEtcd reports whether a record of this agent may be in etcd, now or soon. An
// earlier run may have written a record that this run has not.
func (d *desired) mayExistInEtcd() bool { return d.conflict == nil }

// needsRead reports whether the key must be read. A leaving instance without a known record
// is read first, since it may need no tombstone.
func (d *desired) needsRead() bool {
	return d.suspect || d.leaving && d.modRevision == 0 && !d.outcomeUnknown
}

// needsTombstone reports whether a leaving record must be written, to mark the key or to
// defeat a write still in flight, which compares the key's revision.
func (d *desired) needsTombstone() bool {
	return d.leaving && !d.suspect && (d.modRevision != 0 || d.outcomeUnknown)
}

// needsWrite reports whether the record must be written under the session's lease.
func (d *desired) needsWrite(current clientv3.LeaseID) bool {
	if d.leaving || d.suspect || d.conflict != nil {
		return false
	}
	return d.modRevision == 0 || d.writtenGeneration != d.generation || d.lease != current
}

// nextAttempt returns when the key must be read or written, or the load report, unless the
// state changes before; zero: never.
func (d *desired) nextAttempt(current clientv3.LeaseID, now time.Time) time.Time {
	if d.needsRead() || d.needsWrite(current) || d.needsTombstone() {
		return latest(now, d.attempt.at)
	}
	return d.nextLoadWrite(current, now)
}

// recordIn returns the instance's record in a snapshot; nil: there is none.
func (d *desired) recordIn(s *view.Snapshot) *view.Record {
	return recordOf(s, d.instance.Service, d.instance.ID)
}

// recordOf returns an instance's record in a snapshot; nil: there is none.
func recordOf(s *view.Snapshot, service, id string) *view.Record {
	found, ok := s.Service(service)
	if !ok {
		return nil
	}
	record, _ := found.Record(id)
	return record
}

func serviceScope(service string) discovery.Scope {
	return discovery.Scope{Service: discovery.FoldName(service)}
}

// comparison is what comparing an instance with a snapshot of the view has shown.
type comparison int

const (
	comparedEqual     comparison = iota // the observed state agrees with the snapshot, or does not matter
	comparedDifferent                   // it does not: read the key
	comparedEarly                       // the snapshot is older than the observed state: a later one tells
	comparedHidden                      // the view does not have the service: it tells once it has
)

func comparedDifferentIf(different bool) comparison {
	if different {
		return comparedDifferent
	}
	return comparedEqual
}

// compareWith compares the observed state with a snapshot of a view, which may show another record, or
// none although it has the service. A record of an earlier lease does not matter, since it is written
// anew anyway.
func (d *desired) compareWith(s *view.Snapshot, of View, current clientv3.LeaseID, otherEtcd bool) comparison {
	record := d.recordIn(s)
	switch {
	case d.observedRevision == 0: // reading a record first is cheaper for etcd than a write whose compare fails
		return comparedDifferentIf(record != nil)
	case d.conflict == nil && d.lease != current:
		return comparedEqual
	case otherEtcd:
		return comparedDifferent
	case s.Revision() < d.observedRevision:
		return comparedEarly
	case record == nil && !of.Has(serviceScope(d.instance.Service)):
		return comparedHidden
	case d.conflict != nil:
		return comparedDifferentIf(record == nil || record.Leaving || record.Owner != d.conflict.Owner)
	}
	return comparedDifferentIf(d.modRevision != 0 && (record == nil || record.Modified != d.modRevision))
}

// newRecord returns the record to write, in which an unknown status is critical.
func (d *desired) newRecord(now time.Time) discovery.Instance {
	if d.instance.RegisteredAt.IsZero() {
		d.instance.RegisteredAt = now.UTC().Truncate(time.Millisecond)
	}
	i := d.instance
	i.Status = cmp.Or(i.Status, discovery.Critical)
	i.Checks = slices.Clone(i.Checks)
	for n := range i.Checks {
		i.Checks[n].Status = cmp.Or(i.Checks[n].Status, discovery.Critical)
	}
	i.Leaving = d.leaving
	return i
}

// observe records the key as read from etcd at a revision, nil if it does not exist, and
// decides whether it is this agent's.
func (d *desired) observe(kv *mvccpb.KeyValue, at int64, self Identity, now time.Time, ttl time.Duration) {
	d.suspect, d.observedRevision, d.conflict = false, at, nil
	d.load.outcomeUnknown = true // a writer that altered the record may have altered the report
	if kv == nil {
		d.modRevision, d.writtenGeneration = 0, 0
		return
	}
	i, err := discovery.DecodeInstance(kv.Value)
	switch {
	case err != nil: // nobody can decode it: it has no owner
	case i.Owner == self.Owner && i.Run == self.RunID: // as written, or altered
	case d.leaving && (d.observed || i.Owner != self.Owner || i.Leaving): // a successor's
		d.yieldTo(i, false)
		return
	case i.Leaving: // a tombstone may be overwritten
	case i.Owner != self.Owner:
		d.yieldTo(i, false)
		return
	case d.countRewrite(now, ttl):
		d.yieldTo(i, true)
		return
	default:
		d.adopt(i)
	}
	if d.modRevision != kv.ModRevision {
		d.writtenGeneration = 0 // the record is not the one that was written
	}
	d.modRevision, d.observed = kv.ModRevision, true
}

// yieldTo leaves the key to the record of another, which is a conflict.
func (d *desired) yieldTo(to discovery.Instance, cloned bool) {
	d.conflict = &discovery.ConflictError{Service: to.Service, ID: to.ID, Node: to.Node, Owner: to.Owner, Cloned: cloned}
	d.modRevision, d.writtenGeneration = 0, 0
}

// countRewrite counts a rewrite of this run's record by another run of the same owner. It
// reports whether it is the second within a TTL, which is the sign of a copied data
// directory.
func (d *desired) countRewrite(now time.Time, ttl time.Duration) bool {
	if !d.observed {
		return false // it is the record of an earlier run
	}
	if now.Sub(d.lastRewrite) > ttl {
		d.rewrites = 0
	}
	d.rewrites++
	d.lastRewrite = now
	return d.rewrites >= 2
}

// adopt takes over the registration time of an earlier record, of this run or another, and
// its status, with the outputs, as long as the checks have no result.
func (d *desired) adopt(earlier discovery.Instance) {
	if d.instance.RegisteredAt.IsZero() || !earlier.RegisteredAt.IsZero() {
		d.instance.RegisteredAt = earlier.RegisteredAt
	}
	if d.instance.Status != "" || earlier.Status == "" {
		return
	}
	d.instance.Checks = slices.Clone(d.instance.Checks)
	for n := range d.instance.Checks {
		c := &d.instance.Checks[n]
		at := slices.IndexFunc(earlier.Checks, func(e discovery.CheckStatus) bool { return e.ID == c.ID })
		if at >= 0 && c.Status == "" {
			c.Status, c.Output = earlier.Checks[at].Status, earlier.Checks[at].Output
		}
	}
	d.instance.Status = earlier.Status
	d.dropHiddenOutputs()
}

// dropHiddenOutputs drops the outputs of the checks if the record is to lack them.
func (d *desired) dropHiddenOutputs() {
	if !d.hideOutput {
		return
	}
	d.instance.Checks = slices.Clone(d.instance.Checks)
	for n := range d.instance.Checks {
		d.instance.Checks[n].Output = ""
	}
}
