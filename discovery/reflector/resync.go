package reflector

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/etcd"
	"disc/discovery/life"
)

// Bounds of reading the changes after a gap.
const (
	maxKeyReads  = 500 // changed keys to read one by one; for more, the range is listed
	keyReadBatch = 100 // keys of one transaction; etcd accepts at most 128
)

// syncAndWatch makes the store equal to etcd, then watches until the watch ends, and
// returns the reason. It calls healthy after each response that shows that the watch works.
func (r *Reflector) syncAndWatch(ctx context.Context, healthy func()) error {
	if err := r.connect(ctx, r.client); err != nil {
		return err
	}
	if err := r.resync(ctx); err != nil {
		return err
	}
	kv := r.kv
	r.reader.Store(&kv)
	return r.watch(ctx, healthy)
}

// resync makes the store equal to etcd.
func (r *Reflector) resync(ctx context.Context) error {
	started := time.Now()
	now, err := r.ensureEpoch(ctx)
	if err != nil {
		return err
	}
	reason := now.StartedOver(r.identity)
	if reason != "" {
		r.log.Warn("etcd has started over: it was wiped, restored or replaced; listing everything",
			"why", reason, "epoch", now.Epoch, "epoch_before", r.identity.Epoch)
	}
	r.dropNested()
	changes, epochRevision := 0, now.Revision
	all := slices.Clone(r.ranges)
	for i, w := range all {
		confirmed := r.confirmed
		if i == len(all)-1 {
			confirmed = started // after the last one, all are current
		}
		n, err := r.resyncRange(ctx, w, now, reason != "", confirmed)
		if err != nil && !r.dropForbidden(w, err) {
			return err
		}
		changes += n
	}
	for _, w := range r.ranges {
		now.Revision = max(now.Revision, w.revision)
	}
	r.identity, r.epochRevision, r.confirmed, r.laggingSince = now, epochRevision, started, time.Time{}
	r.countSync()
	r.apply(nil, len(r.ranges) > 1, false)
	r.log.Info("in sync with etcd", "revision", now.Revision, "changes", changes, "took", time.Since(started).Round(time.Millisecond))
	return nil
}

// dropForbidden forgets a range that etcd forbids to list, so that it does not hold up the
// others. It returns false if err is another error, or the store needs the range.
func (r *Reflector) dropForbidden(w *watchedRange, err error) bool {
	if etcd.Refused(err) != etcd.RefusedPermission || r.options.Forbidden == nil || !r.options.Forbidden(w.Range, err) {
		return false
	}
	r.ranges = slices.DeleteFunc(r.ranges, func(other *watchedRange) bool { return other == w })
	return true
}

// countSync records that the store is equal to etcd.
func (r *Reflector) countSync() {
	r.syncCount.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.health.Synced {
		r.health.Resyncs++
		r.options.Metrics.resynced()
	}
	r.health.Synced = true
}

// resyncRange makes one range of the store equal to etcd. confirmed is the time at which
// the whole store is then confirmed. It returns the number of keys passed to the store.
func (r *Reflector) resyncRange(ctx context.Context, w *watchedRange, now life.Identity, startedOver bool, confirmed time.Time) (int, error) {
	var changes int
	var at life.Header
	var err error
	if startedOver || w.revision == 0 || confirmed.IsZero() { // zero: not every range was listed yet, so the store cannot apply changes
		w.revision = 0 // also if this fails: the range's content cannot be trusted
		changes, at, err = r.relist(ctx, w, now, startedOver)
	} else {
		changes, at, err = r.catchUp(ctx, w, now, confirmed)
	}
	if err == nil {
		w.revision = at.Revision
	}
	return changes, err
}

// relist replaces a range in the store by a new listing.
func (r *Reflector) relist(ctx context.Context, w *watchedRange, now life.Identity, startedOver bool) (int, life.Header, error) {
	l := &Listing{Range: w.Range, Epoch: now.Epoch, StartedOver: startedOver, Started: time.Now()}
	l.read = func(each func([]*mvccpb.KeyValue)) (life.Header, error) {
		at, err := r.list(ctx, w.Range, each)
		return at, cmp.Or(err, verify(at, now))
	}
	err := r.store.Replace(l)
	w.keys = int64(l.size)
	return l.size, l.at, err
}

// catchUp applies the changes of a range. It is only for an etcd that has not started over:
// there equal revisions mean equal values.
func (r *Reflector) catchUp(ctx context.Context, w *watchedRange, now life.Identity, confirmed time.Time) (int, life.Header, error) {
	known := maps.Collect(r.store.Known(w.Range))
	changed, keys, at, err := r.listChanged(ctx, w.Range, known)
	if err = cmp.Or(err, verify(at, now)); err != nil {
		return 0, at, err
	}
	events, err := r.readChanged(ctx, w.Range, at.Revision, changed)
	if err != nil {
		return 0, at, err
	}
	for key := range known { // the keys that were not listed
		events = append(events, &clientv3.Event{Type: clientv3.EventTypeDelete, Kv: &mvccpb.KeyValue{Key: []byte(key), ModRevision: at.Revision}})
	}
	slices.SortFunc(events, func(a, b *clientv3.Event) int {
		return cmp.Or(cmp.Compare(a.Kv.ModRevision, b.Kv.ModRevision), slices.Compare(a.Kv.Key, b.Kv.Key))
	})
	w.revision, w.keys = at.Revision, keys
	r.store.Apply(Update{Events: events, Apart: len(r.ranges) > 1, Revision: at.Revision, Confirmed: confirmed, Epoch: now.Epoch, Resynced: true})
	return len(events), at, nil
}

// listChanged lists the keys without their values, removes them from known, and returns
// those whose revision differs from the known one, and how many there are in all.
func (r *Reflector) listChanged(ctx context.Context, rng Range, known map[string]int64) (changed []string, keys int64, at life.Header, err error) {
	at, err = r.list(ctx, rng, func(page []*mvccpb.KeyValue) {
		keys += int64(len(page))
		for _, kv := range page {
			if known[string(kv.Key)] != kv.ModRevision {
				changed = append(changed, string(kv.Key))
			}
			delete(known, string(kv.Key))
		}
	}, clientv3.WithKeysOnly())
	return changed, keys, at, err
}

// list lists a range, with a heartbeat for each page.
func (r *Reflector) list(ctx context.Context, rng Range, each func([]*mvccpb.KeyValue), opts ...clientv3.OpOption) (life.Header, error) {
	return List(ctx, r.kv, rng, func(page []*mvccpb.KeyValue) error {
		r.options.Heartbeat.Begin()
		each(page)
		return nil
	}, opts...)
}

// readChanged reads the named keys at a revision: one by one or, if there are more than
// maxKeyReads, by listing their range.
func (r *Reflector) readChanged(ctx context.Context, rng Range, revision int64, names []string) ([]*clientv3.Event, error) {
	if len(names) <= maxKeyReads {
		return r.readKeys(ctx, revision, names)
	}
	wanted := make(map[string]bool, len(names))
	for _, name := range names {
		wanted[name] = true
	}
	var events []*clientv3.Event
	_, err := r.list(ctx, rng, func(page []*mvccpb.KeyValue) {
		for _, kv := range page {
			if wanted[string(kv.Key)] {
				events = append(events, &clientv3.Event{Kv: kv})
			}
		}
	}, clientv3.WithRev(revision))
	return events, err
}

// readKeys reads keys at a revision, in transactions.
func (r *Reflector) readKeys(ctx context.Context, revision int64, names []string) ([]*clientv3.Event, error) {
	var events []*clientv3.Event
	for batch := range slices.Chunk(names, keyReadBatch) {
		r.options.Heartbeat.Begin()
		ops := make([]clientv3.Op, len(batch))
		for n, name := range batch {
			ops[n] = clientv3.OpGet(name, clientv3.WithRev(revision))
		}
		ctx, cancel := context.WithTimeout(ctx, pageTimeout)
		txn, err := r.kv.Txn(ctx).Then(ops...).Commit()
		cancel()
		if err != nil {
			return nil, fmt.Errorf("read %d changed keys: %w", len(batch), err)
		}
		for _, resp := range txn.Responses {
			for _, kv := range resp.GetResponseRange().GetKvs() {
				events = append(events, &clientv3.Event{Kv: kv})
			}
		}
	}
	return events, nil
}
