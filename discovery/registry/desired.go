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

// item is one wanted instance and what is known of its key.
type item struct {
	key      string
	release  func()             // of its service, which is kept in the view
	instance discovery.Instance // status empty: not known yet
	version  int                // counts the wishes
	leaving  bool

	unsure    bool             // a write was made whose outcome is not known: it may yet arrive
	seen      bool             // this run has written or read the key
	seenAt    int64            // etcd's revision when it was last written or read
	revision  int64            // the key's mod revision as last seen; 0: absent
	lease     clientv3.LeaseID // the key's lease as last written
	written   int              // version that is in etcd; 0: none
	created   bool             // the last write made a record where none was
	doubted   bool             // read the key back before trusting the above
	refused   bool             // by etcd, in this pass
	conflict  *discovery.ConflictError
	err       error
	rewrites  int // how often another run of this owner rewrote the record
	rewritten time.Time

	load load
}

// want takes a new wish. What was learnt of status and registration stays, unless the
// wish says otherwise.
func (it *item) want(i discovery.Instance) {
	before, left := it.instance, it.leaving
	it.instance, it.leaving = i, false
	it.conflict = nil // whoever asks again wants to know anew
	it.adopt(before)
	if left {
		it.load.heard, it.load.lost = time.Time{}, true // the goodbye may take it along
	}
	if it.version == 0 || left || !reflect.DeepEqual(it.instance, before) {
		it.version++
	}
}

// state is how the instance stands while current is the session's lease.
func (it *item) state(current clientv3.LeaseID) State {
	s := State{Phase: Pending, Instance: it.instance, Revision: it.revision, Created: it.created, Err: it.err}
	switch {
	case it.leaving:
		s.Phase = Leaving
	case it.conflict != nil:
		s.Phase, s.Err = InConflict, it.conflict
	case it.written == it.version && it.revision != 0 && it.lease == current:
		s.Phase, s.Err = Written, nil
	}
	return s
}

// mayStand reports whether a record of this agent may be in etcd, now or soon, so that
// it has to say goodbye: what this run has not written yet, an earlier one may have.
func (it *item) mayStand() bool { return it.conflict == nil }

// unread reports whether the key has to be read. What leaves and is not there may need
// no goodbye.
func (it *item) unread() bool { return it.doubted || it.leaving && it.revision == 0 && !it.unsure }

// says reports whether a goodbye has to be put: over the record or, where a write may
// yet arrive, in its way, since that compares what it overwrites.
func (it *item) says() bool { return it.leaving && !it.doubted && (it.revision != 0 || it.unsure) }

// due reports whether the key has to be written under a lease.
func (it *item) due(current clientv3.LeaseID) bool {
	if it.leaving || it.doubted || it.conflict != nil {
		return false
	}
	return it.revision == 0 || it.written != it.version || it.lease != current
}

// shown reports whether a snapshot has a record of which nothing is known yet: reading
// it first is cheaper for etcd than a write that loses its compare.
func (it *item) shown(s *view.Snapshot) bool {
	return it.seenAt == 0 && it.in(s) != nil
}

// in returns the record that a snapshot shows; nil: none.
func (it *item) in(s *view.Snapshot) *view.Record {
	service, ok := s.Service(it.instance.Service)
	if !ok {
		return nil
	}
	record, _ := service.Record(it.instance.ID)
	return record
}

// contradicts reports whether a snapshot shows something else than was last seen.
func (it *item) contradicts(s *view.Snapshot) bool {
	if it.seenAt == 0 || s.Revision() < it.seenAt {
		return false
	}
	record := it.in(s)
	if it.conflict != nil {
		return record == nil || record.Leaving || record.Owner != it.conflict.Owner
	}
	return it.revision != 0 && (record == nil || record.Modified != it.revision)
}

// record is the instance to write: a status that is not known yet is critical.
func (it *item) record(now time.Time) discovery.Instance {
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

// learn takes in what etcd holds under the key at a revision, and decides whose it is.
func (it *item) learn(kv *mvccpb.KeyValue, at int64, who Identity, now time.Time, ttl time.Duration) {
	it.doubted, it.seenAt, it.conflict = false, at, nil
	it.load.lost = true // who altered the record may have altered its report
	if kv == nil {
		it.revision, it.written = 0, 0
		return
	}
	i, err := discovery.DecodeInstance(kv.Value)
	switch {
	case err != nil: // nobody can read it: nobody's
	case i.Owner == who.Owner && i.Run == who.Run: // as it was written, or altered
	case it.leaving && (it.seen || i.Owner != who.Owner || i.Leaving): // a successor's
		it.yield(i, false)
		return
	case i.Leaving:
	case i.Owner != who.Owner:
		it.yield(i, false)
		return
	case it.cloned(now, ttl):
		it.yield(i, true)
		return
	default:
		it.adopt(i)
	}
	if it.revision != kv.ModRevision {
		it.written = 0 // what stands there is not what was written
	}
	it.revision, it.seen = kv.ModRevision, true
}

// yield leaves the key to another.
func (it *item) yield(to discovery.Instance, cloned bool) {
	it.conflict = &discovery.ConflictError{Service: to.Service, ID: to.ID, Node: to.Node, Owner: to.Owner, Cloned: cloned}
	it.revision, it.written = 0, 0
}

// cloned counts that another run of the same owner wrote over this run's record, and
// reports whether it did so twice within a TTL.
func (it *item) cloned(now time.Time, ttl time.Duration) bool {
	if !it.seen {
		return false // the record of an earlier run
	}
	if now.Sub(it.rewritten) > ttl {
		it.rewrites = 0
	}
	it.rewrites++
	it.rewritten = now
	return it.rewrites >= 2
}

// adopt takes over what was registered before, by this run or an earlier one: since
// when, and the status as long as the checks have not spoken.
func (it *item) adopt(earlier discovery.Instance) {
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
