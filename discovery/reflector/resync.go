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
)

// Bounds of reading what changed after a gap.
const (
	maxKeyReads  = 500 // keys that are read one by one; beyond, the range is listed
	keyReadBatch = 100 // keys of one transaction; etcd takes at most 128
)

// syncAndWatch makes the mirror equal to etcd and then follows the watch until that ends,
// with the reason. It calls steady when the watch has proved to work.
func (f *Reflector) syncAndWatch(ctx context.Context, steady func()) error {
	if err := f.connect(ctx, f.client); err != nil {
		return err
	}
	if err := f.resync(ctx); err != nil {
		return err
	}
	kv := f.kv
	f.reader.Store(&kv)
	return f.watch(ctx, steady)
}

// resync makes the mirror equal to what etcd holds.
func (f *Reflector) resync(ctx context.Context) error {
	started := time.Now()
	now, err := f.ensureEpoch(ctx)
	if err != nil {
		return err
	}
	why := now.startedOverReason(f.identity)
	if why != "" {
		f.log.Warn("etcd has started over: it was wiped, restored or replaced; listing everything",
			"why", why, "epoch", now.epoch, "epoch_before", f.identity.epoch)
	}
	f.dropNested()
	changes, asked := 0, now.Revision
	for i, r := range f.ranges {
		confirmed := f.confirmed
		if i == len(f.ranges)-1 {
			confirmed = started // with the last of them, all are current
		}
		n, err := f.resyncRange(ctx, r, now, why != "", confirmed)
		if err != nil {
			return err
		}
		changes += n
	}
	for _, r := range f.ranges {
		now.Revision = max(now.Revision, r.revision)
	}
	f.identity, f.epochRevision, f.confirmed, f.laggingSince = now, asked, started, time.Time{}
	f.countSync()
	f.apply(nil)
	f.log.Info("in sync with etcd", "revision", now.Revision, "changes", changes, "took", time.Since(started).Round(time.Millisecond))
	return nil
}

func (f *Reflector) countSync() {
	f.syncCount.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.health.Synced {
		f.health.Resyncs++
		f.options.Metrics.resynced()
	}
	f.health.Synced = true
}

// resyncRange makes the mirror equal to what etcd holds of a range, with which all of it is
// confirmed at a moment. It returns how many keys it has told of.
func (f *Reflector) resyncRange(ctx context.Context, r *watchedRange, now clusterIdentity, over bool, confirmed time.Time) (int, error) {
	var told int
	var at Header
	var err error
	if over || r.revision == 0 || confirmed.IsZero() { // zero: not all was listed yet, and there is no view to change
		r.revision = 0 // whatever comes of it: nothing is known that can be trusted
		told, at, err = f.relist(ctx, r.Range, now, over)
	} else {
		told, at, err = f.catchUp(ctx, r, now, confirmed)
	}
	if err == nil {
		r.revision = at.Revision
	}
	return told, err
}

// relist has the mirror take a range anew.
func (f *Reflector) relist(ctx context.Context, r Range, now clusterIdentity, over bool) (int, Header, error) {
	l := &Listing{Range: r, Epoch: now.epoch, StartedOver: over, Started: time.Now()}
	l.read = func(each func([]*mvccpb.KeyValue)) (Header, error) {
		at, err := f.list(ctx, r, each)
		return at, cmp.Or(err, now.verify(at))
	}
	err := f.store.Replace(l)
	return l.size, l.at, err
}

// catchUp tells what has changed in a range of the same life: a key whose revision is
// the same is the same.
func (f *Reflector) catchUp(ctx context.Context, r *watchedRange, now clusterIdentity, confirmed time.Time) (int, Header, error) {
	known := maps.Collect(f.store.Known(r.Range))
	changed, at, err := f.listChanged(ctx, r.Range, known)
	if err = cmp.Or(err, now.verify(at)); err != nil {
		return 0, at, err
	}
	events, err := f.readChanged(ctx, r.Range, at.Revision, changed)
	if err != nil {
		return 0, at, err
	}
	for key := range known { // what is left was not listed
		events = append(events, &clientv3.Event{Type: clientv3.EventTypeDelete, Kv: &mvccpb.KeyValue{Key: []byte(key), ModRevision: at.Revision}})
	}
	slices.SortFunc(events, func(a, b *clientv3.Event) int {
		return cmp.Or(cmp.Compare(a.Kv.ModRevision, b.Kv.ModRevision), slices.Compare(a.Kv.Key, b.Kv.Key))
	})
	r.revision = at.Revision
	f.store.Apply(Update{Events: events, Revision: at.Revision, Confirmed: confirmed, Epoch: now.epoch})
	return len(events), at, nil
}

// listChanged lists the keys without their values, takes those that are there out of
// known, and returns those whose revision is another than known.
func (f *Reflector) listChanged(ctx context.Context, r Range, known map[string]int64) ([]string, Header, error) {
	var changed []string
	at, err := f.list(ctx, r, func(page []*mvccpb.KeyValue) {
		for _, kv := range page {
			if known[string(kv.Key)] != kv.ModRevision {
				changed = append(changed, string(kv.Key))
			}
			delete(known, string(kv.Key))
		}
	}, clientv3.WithKeysOnly())
	return changed, at, err
}

// list lists a range, and shows that it comes on.
func (f *Reflector) list(ctx context.Context, r Range, each func([]*mvccpb.KeyValue), opts ...clientv3.OpOption) (Header, error) {
	return List(ctx, f.kv, r, func(page []*mvccpb.KeyValue) {
		f.options.Heartbeat.Begin()
		each(page)
	}, opts...)
}

// readChanged reads the named keys at a revision: one by one or, if they are many, by
// listing their range.
func (f *Reflector) readChanged(ctx context.Context, r Range, revision int64, names []string) ([]*clientv3.Event, error) {
	if len(names) <= maxKeyReads {
		return f.readKeys(ctx, revision, names)
	}
	wanted := make(map[string]bool, len(names))
	for _, name := range names {
		wanted[name] = true
	}
	var events []*clientv3.Event
	_, err := f.list(ctx, r, func(page []*mvccpb.KeyValue) {
		for _, kv := range page {
			if wanted[string(kv.Key)] {
				events = append(events, &clientv3.Event{Kv: kv})
			}
		}
	}, clientv3.WithRev(revision))
	return events, err
}

// readKeys reads some keys at a revision.
func (f *Reflector) readKeys(ctx context.Context, revision int64, names []string) ([]*clientv3.Event, error) {
	var events []*clientv3.Event
	for batch := range slices.Chunk(names, keyReadBatch) {
		f.options.Heartbeat.Begin()
		ops := make([]clientv3.Op, len(batch))
		for n, name := range batch {
			ops[n] = clientv3.OpGet(name, clientv3.WithRev(revision))
		}
		ctx, cancel := context.WithTimeout(ctx, pageTimeout)
		txn, err := f.kv.Txn(ctx).Then(ops...).Commit()
		cancel()
		if err != nil {
			return nil, fmt.Errorf("read %d changed keys: %w", len(batch), err)
		}
		for _, r := range txn.Responses {
			for _, kv := range r.GetResponseRange().GetKvs() {
				events = append(events, &clientv3.Event{Kv: kv})
			}
		}
	}
	return events, nil
}
