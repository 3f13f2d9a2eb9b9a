package registry

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
)

// loadInterval is the least time between two writes of an instance's load report.
const loadInterval = 5 * time.Second

// loadState is the load that an instance has reported, and the report that is in etcd.
type loadState struct {
	utilization    float64          // of the last report
	reportedAt     time.Time        // when it was made; zero: never
	written        float64          // the utilization in etcd
	lease          clientv3.LeaseID // of the report in etcd; 0: there is none
	outcomeUnknown bool             // written and lease may be wrong
	attemptedAt    time.Time        // when the last write or removal was attempted that etcd did not refuse; zero: never
	sent           bool             // a report may have reached etcd, now or before
	attempt        attempt          // the next, after a refusal
}

// nextWrite returns when the report must be written or removed while current is the
// session's lease, unless the state changes before; zero: never.
func (l *loadState) nextWrite(current clientv3.LeaseID, now time.Time) time.Time {
	next := l.attemptedAt.Add(loadInterval)
	expires := l.reportedAt.Add(discovery.LoadReportTTL)
	switch valid, inEtcd := now.Before(expires), l.lease == current; {
	case valid && (!inEtcd || l.outcomeUnknown || discovery.LoadDiffers(l.utilization, l.written)):
		return next
	case valid || inEtcd:
		return latest(expires, next)
	}
	return time.Time{}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// needsLoadWrite reports whether the load report must be written or removed now.
func (d *desired) needsLoadWrite(current clientv3.LeaseID, now time.Time) bool {
	due := d.nextLoadWrite(current, now)
	return !due.IsZero() && !now.Before(due)
}

// nextLoadWrite returns when the load report must be written or removed, unless the state
// changes before; zero: never. A report is written only beside a written record.
func (d *desired) nextLoadWrite(current clientv3.LeaseID, now time.Time) time.Time {
	due := d.load.nextWrite(current, now)
	if due.IsZero() || d.suspect || d.phase(current) != PhaseWritten {
		return time.Time{}
	}
	return latest(due, d.load.attempt.at)
}

// ReportLoad reports an instance's utilization, see [discovery.LoadReport]. The report is
// valid for [discovery.LoadReportTTL]. The error is a [discovery.ErrNotFound] for an instance
// that is not in the desired set, and a *[discovery.ConflictError] for one that is in
// conflict.
func (r *Registry) ReportLoad(service, id string, utilization float64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	d, ok := r.desired[r.keys.Instance(service, id)]
	switch {
	case !ok || d.leaving:
		return discovery.Errorf(discovery.ErrNotFound, "instance %s/%s is not registered here", service, id)
	case d.conflict != nil:
		return d.conflict
	}
	before := d.due
	d.load.utilization, d.load.reportedAt = utilization, time.Now()
	r.update(d)
	if !d.due.IsZero() && (before.IsZero() || d.due.Before(before)) {
		r.wake.Notify()
	}
	return nil
}

// writeLoads writes or removes the load reports of a batch.
func (r *Registry) writeLoads(ctx context.Context, batch []*draft, under clientv3.LeaseID) error {
	now := time.Now()
	ops := make([]clientv3.Op, len(batch))
	isPut := make([]bool, len(batch))
	for n, d := range batch {
		key := r.keys.Load(d.record.Service, d.record.ID)
		ops[n] = clientv3.OpDelete(key)
		if isPut[n] = now.Before(d.load.reportedAt.Add(discovery.LoadReportTTL)); isPut[n] {
			value := discovery.LoadReport{Utilization: &d.load.utilization}.Encode()
			ops[n] = clientv3.OpPut(key, string(value), clientv3.WithLease(under))
		}
	}
	r.markLoadsSent(batch, under, now, isPut)
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout())
	defer cancel()
	resp, err := r.client.Txn(ctx).If(r.compares(batch)...).Then(ops...).Commit()
	if err != nil {
		if isRefusal(err) {
			r.unmarkLoadsSent(batch)
		}
		return fmt.Errorf("write load of %s: %w", describe(batch), err)
	}
	if !resp.Succeeded {
		return nil // somebody changed a record; the view will show it
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for n, d := range batch {
		d.desired.load.outcomeUnknown, d.desired.load.written = false, d.load.utilization
		if !isPut[n] {
			d.desired.load.lease = 0
		}
		r.metrics.loads.Inc()
	}
	return nil
}

// markLoadsSent records that the load reports of a batch may arrive at etcd, or their removals.
func (r *Registry) markLoadsSent(batch []*draft, under clientv3.LeaseID, now time.Time, isPut []bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n, d := range batch {
		l := &d.desired.load
		l.attemptedAt, l.lease, l.outcomeUnknown, l.sent = now, under, true, l.sent || isPut[n]
		r.update(d.desired)
	}
}

// unmarkLoadsSent undoes markLoadsSent, since etcd has refused the transaction: it changed nothing, and
// the reports need their writes as before. A caller may have removed and put an instance meanwhile, so
// that its report is in doubt.
func (r *Registry) unmarkLoadsSent(batch []*draft) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range batch {
		l := &d.desired.load
		l.attemptedAt, l.lease, l.sent = d.load.attemptedAt, d.load.lease, d.load.sent
		l.outcomeUnknown = d.load.outcomeUnknown || d.desired.generation != d.generation
		r.update(d.desired)
	}
}
