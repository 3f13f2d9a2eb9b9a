package registry

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
)

// loadEvery is how often a load report is written at most.
const loadEvery = 5 * time.Second

// load is what an instance says of its load, and what of that is in etcd.
type load struct {
	said  float64          // the last report
	heard time.Time        // when that was; zero: never
	put   float64          // what is in etcd
	lease clientv3.LeaseID // under which it is there; 0: it is not
	lost  bool             // it is not known what of that holds
	tried time.Time        // when it last was written or removed, or that was tried; zero: never
}

// due returns when the report is to be written or removed under a lease, if nothing
// else happens; zero: not at all.
func (l *load) due(current clientv3.LeaseID, now time.Time) time.Time {
	next := l.tried.Add(loadEvery)
	over := l.heard.Add(discovery.LoadLasts)
	switch lasts, stands := now.Before(over), l.lease == current; {
	case lasts && (!stands || l.lost || discovery.LoadDiffers(l.said, l.put)):
		return next
	case lasts || stands:
		return later(over, next)
	}
	return time.Time{}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// loadDue reports whether the load report of an item that stands in etcd is to be
// written or removed.
func (it *item) loadDue(current clientv3.LeaseID, now time.Time) bool {
	due := it.nextLoad(current, now)
	return !due.IsZero() && !now.Before(due)
}

// nextLoad is when it is; zero: not before something else happens.
func (it *item) nextLoad(current clientv3.LeaseID, now time.Time) time.Time {
	due := it.load.due(current, now)
	if due.IsZero() || it.doubted || it.state(current).Phase != Written {
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
	it, ok := r.items[r.keys.Instance(service, id)]
	switch {
	case !ok || it.leaving:
		return discovery.Errorf(discovery.ErrNotFound, "instance %s/%s is not registered here", service, id)
	case it.conflict != nil:
		return it.conflict
	}
	now := time.Now()
	before := it.load.due(r.current.ID, now)
	it.load.said, it.load.heard = utilization, now
	if due := it.load.due(r.current.ID, now); before.IsZero() || due.Before(before) {
		signal(r.wake)
	}
	return nil
}

// nextLoad returns what tells when a load report is due the next time.
func (r *Registry) nextLoad(current clientv3.LeaseID) <-chan time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	var next time.Time
	for _, it := range r.items {
		if due := it.nextLoad(current, now); !due.IsZero() && (next.IsZero() || due.Before(next)) {
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
		if puts[n] = now.Before(d.load.heard.Add(discovery.LoadLasts)); puts[n] {
			value := discovery.LoadReport{Utilization: &d.load.said}.Encode()
			ops[n] = clientv3.OpPut(key, string(value), clientv3.WithLease(under))
		}
	}
	r.tryLoads(batch, under, now)
	ctx, cancel := context.WithTimeout(ctx, r.callTime())
	defer cancel()
	resp, err := r.client.Txn(ctx).If(r.compares(batch)...).Then(ops...).Commit()
	if err != nil {
		return fmt.Errorf("write load of %s: %w", names(batch), err)
	}
	if !resp.Succeeded {
		return nil // somebody has changed a record: the view will show it
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for n, d := range batch {
		d.item.load.lost, d.item.load.put = false, d.load.said
		if !puts[n] {
			d.item.load.lease = 0
		}
		r.metrics.loads.Inc()
	}
	return nil
}

// tryLoads notes that the load reports of a batch are on their way, and may arrive.
func (r *Registry) tryLoads(batch []*draft, under clientv3.LeaseID, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range batch {
		d.item.load.tried, d.item.load.lease, d.item.load.lost = now, under, true
	}
}
