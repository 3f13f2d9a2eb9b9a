package registry

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/heartbeat"
	"disc/discovery/lease"
)

// lookEvery is how often the view is looked at, at most.
const lookEvery = 100 * time.Millisecond

// Run keeps etcd equal to the wanted set until ctx ends, and returns nil then. What
// is in etcd stays there.
func (r *Registry) Run(ctx context.Context) error {
	sweep := time.NewTimer(r.nextSweep())
	defer sweep.Stop()
	var under clientv3.LeaseID
	var turn time.Time // before which nothing is written under that lease
	for {
		r.pulse.Begin()
		current, released := r.session.Lease()
		changed := r.view.Changed("")
		again := (<-chan time.Time)(nil)
		if current.ID != under {
			under, turn = current.ID, time.Now().Add(r.smear(current))
		}
		r.look(current)
		if wait := time.Until(turn); current.ID != 0 && wait > 0 {
			again = time.After(wait)
		} else if current.ID != 0 {
			if err := r.reconcile(ctx, current.ID); err != nil && ctx.Err() == nil {
				r.failed(current.ID, err)
				again = time.After(r.retry.Next())
			} else {
				r.retry.Reset()
				again = r.nextLoad(current.ID)
			}
		}
		r.count()
		r.pulse.End()
		select {
		case <-ctx.Done():
			return nil
		case <-released:
		case <-r.wake:
		case <-changed:
			r.rest(ctx)
		case <-again:
		case <-r.recheck:
			r.doubtAll()
		case <-sweep.C:
			r.doubtAll()
			sweep.Reset(r.nextSweep())
		}
	}
}

// Heartbeat shows whether Run is stuck.
func (r *Registry) Heartbeat() *heartbeat.Heartbeat { return &r.pulse }

// rest lets the changes of a busy fleet gather, unless there is something to do.
func (r *Registry) rest(ctx context.Context) {
	select {
	case <-time.After(lookEvery):
	case <-r.wake:
	case <-ctx.Done():
	}
}

// smear returns how long to wait before writing under a lease. After an outage the
// whole fleet gets its leases in one moment; a random delay of up to a second for each
// 500 instances, at most 5 s, keeps it from writing in one, too.
func (r *Registry) smear(l lease.Lease) time.Duration {
	view, err := r.view.View()
	if !l.AfterOutage || err != nil {
		return 0
	}
	_, instances, _ := view.Snapshot.Len()
	if view.Partial {
		instances = math.MaxInt32 // by interest, the fleet is large
	}
	return rand.N(min(time.Duration(instances)*time.Second/500, 5*time.Second) + 1)
}

func (r *Registry) nextSweep() time.Duration { return r.sweep/2 + rand.N(r.sweep) }

// doubtAll makes the next pass read every record back.
func (r *Registry) doubtAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nodeLease = 0
	for _, it := range r.items {
		it.doubted = true
	}
}

// look begins a pass: it compares what was written with what the catalog shows, and
// doubts what others have changed. After etcd was wiped or restored that is everything.
func (r *Registry) look(current lease.Lease) {
	view, err := r.view.View()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current.ID != current.ID {
		r.announce() // nothing is written any more
	}
	r.current = current
	for _, it := range r.items {
		it.refused = false
	}
	if err != nil {
		return // nothing to compare with yet
	}
	s := view.Snapshot
	another := r.epoch != s.Epoch() || s.Revision() < r.reached
	r.epoch, r.reached = s.Epoch(), s.Revision()
	for _, it := range r.items {
		if (it.conflict != nil || it.lease == current.ID) && (another || it.contradicts(s)) || it.shown(s) {
			it.doubted = true
		}
	}
	if r.nodeRevision != 0 && (another || s.Revision() >= r.nodeRevision) && !s.HasAgent(r.who.Node.Node, r.who.Owner) {
		r.nodeLease = 0
	}
}

// failed reports a pass that etcd did not take, and has the lease verified if that is
// why.
func (r *Registry) failed(current clientv3.LeaseID, err error) {
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		r.session.Verify(current)
	}
	r.metrics.failures.Inc()
	if r.retry.Failed() {
		r.log.Warn("cannot write to etcd; trying again", "failures", r.retry.Failures(), "error", err)
	}
}
