package registry

import (
	"context"
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/heartbeat"
	"disc/discovery/lease"
	"disc/discovery/view"
)

// viewDebounce is how long changes of the view are gathered before the next reconciliation.
const viewDebounce = 100 * time.Millisecond

// Run keeps etcd equal to the desired set until ctx ends, and returns nil then. It leaves
// the records in etcd.
func (r *Registry) Run(ctx context.Context) error {
	resync := time.NewTimer(r.nextResync())
	defer resync.Stop()
	var under clientv3.LeaseID
	var writeAfter time.Time // under that lease
	for {
		r.heartbeat.Begin()
		current, released := r.session.Lease()
		changed := r.view.Changed("")
		again := (<-chan time.Time)(nil)
		if current.ID != under {
			under, writeAfter = current.ID, time.Now().Add(r.reregisterJitter(current))
		}
		r.compareWithView(current)
		if wait := time.Until(writeAfter); current.ID != 0 && wait > 0 {
			again = time.After(wait)
		} else if current.ID != 0 {
			if err := r.reconcile(ctx, current.ID); err != nil && ctx.Err() == nil {
				r.reconcileFailed(current.ID, err)
				again, changed = time.After(r.backoff.Next()), nil // the view is looked at then
			} else {
				r.backoff.Reset()
				again = r.nextAttempt(current.ID)
			}
		}
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
		case <-resync.C:
			r.suspectAll()
			resync.Reset(r.nextResync())
		}
	}
}

// nextAttempt returns a channel that fires when something must be read or written next, unless
// the state changes before; nil: nothing must.
func (r *Registry) nextAttempt(current clientv3.LeaseID) <-chan time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	var next time.Time
	if r.nodeLease != current {
		next = latest(now, r.nodeAttempt.at)
	}
	r.dropExpired(now)
	if d := r.queue.first(); d != nil && (next.IsZero() || d.due.Before(next)) {
		next = d.due
	}
	if next.IsZero() {
		return nil
	}
	return time.After(next.Sub(now))
}

// dropExpired updates the first instances of the queue that are due but need nothing, until one does
// need something. They are those whose load report has expired before it was in etcd. r.mu is held.
func (r *Registry) dropExpired(now time.Time) {
	for d := r.queue.first(); d != nil && !d.due.After(now); d = r.queue.first() {
		if due := d.nextAttempt(r.currentLease.ID, now); !due.IsZero() && !due.After(now) {
			return
		}
		r.update(d)
	}
}

// Heartbeat shows whether Run is stuck.
func (r *Registry) Heartbeat() *heartbeat.Heartbeat { return &r.heartbeat }

// debounce waits for viewDebounce, so that the changes of a busy fleet gather; less if the
// desired set changes or ctx ends.
func (r *Registry) debounce(ctx context.Context) {
	select {
	case <-time.After(viewDebounce):
	case <-r.wake:
	case <-ctx.Done():
	}
}

// reregisterJitter returns how long to wait before writing under a new lease. After an
// outage all agents get their leases at the same moment. A random delay of up to 1 s for
// each 500 instances in the view, at most [discovery.MaxReregisterJitter], spreads their
// writes.
func (r *Registry) reregisterJitter(l lease.Lease) time.Duration {
	view, err := r.view.View()
	if !l.AfterOutage || err != nil {
		return 0
	}
	_, instances, _ := view.Snapshot.Len()
	if view.Partial {
		instances = math.MaxInt32 // an agent that watches only a part belongs to a large fleet
	}
	return rand.N(min(time.Duration(instances)*time.Second/500, discovery.MaxReregisterJitter) + 1)
}

// nextResync returns the time to the next periodic resync.
func (r *Registry) nextResync() time.Duration { return r.resyncInterval/2 + rand.N(r.resyncInterval) }

// suspectAll makes the next reconciliation read every record, and try whole batches again: an
// etcd that took only small ones may have been set otherwise.
func (r *Registry) suspectAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nodeLease, r.maxOps = 0, batchOps
	for _, d := range r.desired {
		d.suspect = true
	}
	r.updateAll()
}

// compareWithView begins a reconciliation: it compares the observed state with the view,
// and marks as suspect each record that others have changed. After etcd was wiped or
// restored that is every record. It looks only at instances that have changed in the view since the
// last comparison, and at those that it could not compare yet since they changed here.
func (r *Registry) compareWithView(current lease.Lease) {
	view, err := r.view.View()
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.currentLease.ID
	if r.currentLease = current; before != current.ID {
		r.notifyWaiters() // nothing is written under the new lease yet
		r.restartAttempts()
	}
	if err != nil {
		return // there is no view yet
	}
	s := view.Snapshot
	otherEtcd := r.compared.Epoch() != s.Epoch() || s.Revision() < r.compared.Revision()
	r.findUnconfirmed(s, otherEtcd)
	r.compared = s
	for d := range r.unconfirmed {
		result := d.compareWith(s, r.view, current.ID, otherEtcd)
		if result == comparedDifferent && !d.suspect {
			d.suspect = true
			r.update(d)
		}
		if result != comparedEarly {
			delete(r.unconfirmed, d)
		}
		if result == comparedHidden {
			r.hide(d)
		} else {
			r.unhide(d)
		}
	}
	node := r.identity.Node.Node
	if r.nodeRevision != 0 && (otherEtcd || s.Revision() >= r.nodeRevision && r.view.Has(discovery.Scope{Node: node})) && !s.HasAgent(node, r.identity.Owner) {
		r.nodeLease = 0
	}
}

// hide makes an instance wait until the view has its service. r.mu is held.
func (r *Registry) hide(d *desired) {
	scope := serviceScope(d.instance.Service)
	if r.hidden[scope] == nil {
		r.hidden[scope] = map[*desired]bool{}
	}
	r.hidden[scope][d] = true
}

// unhide ends the wait of an instance. r.mu is held.
func (r *Registry) unhide(d *desired) {
	scope := serviceScope(d.instance.Service)
	if delete(r.hidden[scope], d); len(r.hidden[scope]) == 0 {
		delete(r.hidden, scope)
	}
}

// findUnconfirmed adds the instances to r.unconfirmed that have changed in the view since the last
// comparison, and those whose service the view has now; all where this is another etcd. r.mu is held.
func (r *Registry) findUnconfirmed(s *view.Snapshot, otherEtcd bool) {
	if otherEtcd {
		for _, d := range r.desired {
			r.unconfirmed[d] = true
		}
		return
	}
	for service, id := range s.ChangedSince(r.compared) {
		if d, ok := r.desired[r.keys.Instance(service, id)]; ok {
			r.unconfirmed[d] = true
		}
	}
	for scope, waiting := range r.hidden {
		if r.view.Has(scope) {
			maps.Copy(r.unconfirmed, waiting)
			delete(r.hidden, scope)
		}
	}
}

// restartAttempts makes everything be attempted at once, under a new lease: etcd refuses all
// writes under a lease that has one forbidden key. r.mu is held.
func (r *Registry) restartAttempts() {
	r.nodeAttempt.restart()
	for _, d := range r.desired {
		d.attempt.restart()
		d.load.attempt.restart()
	}
	r.updateAll()
}

// reconcileFailed counts and logs the error of a reconciliation. If etcd did not know the
// lease, the session verifies it.
func (r *Registry) reconcileFailed(current clientv3.LeaseID, err error) {
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		r.session.Verify(current)
	}
	r.metrics.failures.Inc()
	if r.backoff.Failed() {
		r.log.Warn("cannot write to etcd; trying again", "failures", r.backoff.Failures(), "error", err)
	}
}
