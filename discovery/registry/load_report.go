package registry

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
)

// loadInterval is how often a load report is written at most.
const loadInterval = 5 * time.Second

// loadState is what an instance says of its load, and what of that is in etcd.
type loadState struct {
	utilization    float64          // the last report
	reportedAt     time.Time        // when that was; zero: never
	written        float64          // what is in etcd
	lease          clientv3.LeaseID // under which it is there; 0: it is not
	outcomeUnknown bool             // it is not known what of that holds
	attemptedAt    time.Time        // when it last was written or removed, or that was tried; zero: never
}

// nextWrite returns when the report is to be written or removed under a lease, if nothing
// else happens; zero: not at all.
func (l *loadState) nextWrite(current clientv3.LeaseID, now time.Time) time.Time {
	next := l.attemptedAt.Add(loadInterval)
	over := l.reportedAt.Add(discovery.LoadLasts)
	switch lasts, stands := now.Before(over), l.lease == current; {
	case lasts && (!stands || l.outcomeUnknown || discovery.LoadDiffers(l.utilization, l.written)):
		return next
	case lasts || stands:
		return latest(over, next)
	}
	return time.Time{}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// needsLoadWrite reports whether the load report of an item that stands in etcd is to be
// written or removed.
func (it *desired) needsLoadWrite(current clientv3.LeaseID, now time.Time) bool {
	due := it.nextLoadWrite(current, now)
	return !due.IsZero() && !now.Before(due)
}

// nextLoadWrite is when it is; zero: not before something else happens.
func (it *desired) nextLoadWrite(current clientv3.LeaseID, now time.Time) time.Time {
	due := it.load.nextWrite(current, now)
	if due.IsZero() || it.suspect || it.state(current).Phase != Written {
		return time.Time{}
	}
	return due
}

// ReportLoad says how busy an instance is, see [discovery.Load]; it counts for
// [discovery.LoadLasts]. It is an [discovery.ErrNotFound] for an instance that is not
// wanted, and a *[discovery.ConflictError] for one that another owner has.
func (r *Registry) ReportLoad(service, id string, utilization float64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	it, ok := r.desired[r.keys.Instance(service, id)]
	switch {
	case !ok || it.leaving:
		return discovery.Errorf(discovery.ErrNotFound, "instance %s/%s is not registered here", service, id)
	case it.conflict != nil:
		return it.conflict
	}
	now := time.Now()
	before := it.load.nextWrite(r.currentLease.ID, now)
	it.load.utilization, it.load.reportedAt = utilization, now
	if due := it.load.nextWrite(r.currentLease.ID, now); before.IsZero() || due.Before(before) {
		signal(r.wake)
	}
	return nil
}

// nextLoadTimer returns what tells when a load report is due the next time.
func (r *Registry) nextLoadTimer(current clientv3.LeaseID) <-chan time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	var next time.Time
	for _, it := range r.desired {
		if due := it.nextLoadWrite(current, now); !due.IsZero() && (next.IsZero() || due.Before(next)) {
			next = due
		}
	}
	if next.IsZero() {
		return nil
	}
	return time.After(time.Until(next))
}

// writeLoads writes or removes the load reports of a batch.
func (r *Registry) writeLoads(ctx context.Context, batch []*draft, under clientv3.LeaseID) error {
	now := time.Now()
	ops := make([]clientv3.Op, len(batch))
	puts := make([]bool, len(batch))
	for n, d := range batch {
		key := r.keys.Load(d.record.Service, d.record.ID)
		ops[n] = clientv3.OpDelete(key)
		if puts[n] = now.Before(d.load.reportedAt.Add(discovery.LoadLasts)); puts[n] {
			value := discovery.LoadReport{Utilization: &d.load.utilization}.Encode()
			ops[n] = clientv3.OpPut(key, string(value), clientv3.WithLease(under))
		}
	}
	r.markLoadsSent(batch, under, now)
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout())
	defer cancel()
	resp, err := r.client.Txn(ctx).If(r.compares(batch)...).Then(ops...).Commit()
	if err != nil {
		return fmt.Errorf("write load of %s: %w", describe(batch), err)
	}
	if !resp.Succeeded {
		return nil // somebody has changed a record: the view will show it
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for n, d := range batch {
		d.desired.load.outcomeUnknown, d.desired.load.written = false, d.load.utilization
		if !puts[n] {
			d.desired.load.lease = 0
		}
		r.metrics.loads.Inc()
	}
	return nil
}

// markLoadsSent notes that the load reports of a batch are on their way, and may arrive.
func (r *Registry) markLoadsSent(batch []*draft, under clientv3.LeaseID, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range batch {
		d.desired.load.attemptedAt, d.desired.load.lease, d.desired.load.outcomeUnknown = now, under, true
	}
}
