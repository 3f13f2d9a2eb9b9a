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

// viewDebounce is how often the view is looked at, at most.
const viewDebounce = 100 * time.Millisecond

// Run keeps etcd equal to the wanted set until ctx ends, and returns nil then. What
// is in etcd stays there.
func (r *Registry) Run(ctx context.Context) error {
	sweep := time.NewTimer(r.nextResync())
	defer sweep.Stop()
	var under clientv3.LeaseID
	var turn time.Time // before which nothing is written under that lease
	for {
		r.heartbeat.Begin()
		current, released := r.session.Lease()
		changed := r.view.Changed("")
		again := (<-chan time.Time)(nil)
		if current.ID != under {
			under, turn = current.ID, time.Now().Add(r.reregisterJitter(current))
		}
		r.compareWithView(current)
		if wait := time.Until(turn); current.ID != 0 && wait > 0 {
			again = time.After(wait)
		} else if current.ID != 0 {
			if err := r.reconcile(ctx, current.ID); err != nil && ctx.Err() == nil {
				r.reconcileFailed(current.ID, err)
				again = time.After(r.backoff.Next())
			} else {
				r.backoff.Reset()
				again = r.nextLoadTimer(current.ID)
			}
		}
		r.updateMetrics()
		r.heartbeat.End()
		select {
		case <-ctx.Done():
			return nil
		case <-released:
		case <-r.wake:
		case <-changed:
			r.debounce(ctx)
		case <-again:
		case <-r.resync:
			r.suspectAll()
		case <-sweep.C:
			r.suspectAll()
			sweep.Reset(r.nextResync())
		}
	}
}

// Heartbeat shows whether Run is stuck.
func (r *Registry) Heartbeat() *heartbeat.Heartbeat { return &r.heartbeat }

// debounce lets the changes of a busy fleet gather, unless there is something to do.
func (r *Registry) debounce(ctx context.Context) {
	select {
	case <-time.After(viewDebounce):
	case <-r.wake:
	case <-ctx.Done():
	}
}

// reregisterJitter returns how long to wait before writing under a lease. After an outage the
// whole fleet gets its leases in one moment; a random delay of up to a second for each
// 500 instances, at most 5 s, keeps it from writing in one, too.
func (r *Registry) reregisterJitter(l lease.Lease) time.Duration {
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

func (r *Registry) nextResync() time.Duration { return r.resyncInterval/2 + rand.N(r.resyncInterval) }

// suspectAll makes the next pass read every record back.
func (r *Registry) suspectAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nodeLease = 0
	for _, it := range r.desired {
		it.suspect = true
	}
}

// compareWithView begins a pass: it compares what was written with what the catalog shows, and
// doubts what others have changed. After etcd was wiped or restored that is everything.
func (r *Registry) compareWithView(current lease.Lease) {
	view, err := r.view.View()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.currentLease.ID != current.ID {
		r.notifyWaiters() // nothing is written any more
	}
	r.currentLease = current
	for _, it := range r.desired {
		it.refused = false
	}
	if err != nil {
		return // nothing to compare with yet
	}
	s := view.Snapshot
	another := r.epoch != s.Epoch() || s.Revision() < r.viewRevision
	r.epoch, r.viewRevision = s.Epoch(), s.Revision()
	for _, it := range r.desired {
		if (it.conflict != nil || it.lease == current.ID) && (another || it.contradictedBy(s)) || it.unreadIn(s) {
			it.suspect = true
		}
	}
	if r.nodeRevision != 0 && (another || s.Revision() >= r.nodeRevision) && !s.HasAgent(r.identity.Node.Node, r.identity.Owner) {
		r.nodeLease = 0
	}
}

// reconcileFailed reports a pass that etcd did not take, and has the lease verified if that is
// why.
func (r *Registry) reconcileFailed(current clientv3.LeaseID, err error) {
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		r.session.Verify(current)
	}
	r.metrics.failures.Inc()
	if r.backoff.Failed() {
		r.log.Warn("cannot write to etcd; trying again", "failures", r.backoff.Failures(), "error", err)
	}
}
