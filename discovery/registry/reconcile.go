package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"disc/discovery"

	mvccpb "go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Bounds of one transaction: etcd takes at most 128 operations and 1.5 MiB.
const (
	batchOps   = 100
	batchBytes = 512 << 10
	callTime   = 5 * time.Second
)

// goodbye is how long a record that is leaving stays, so that readers who list later
// can still tell a departure from a death. In seconds.
const goodbye = 60

// reconcile makes one pass: what is due is written, what leaves says goodbye. It
// returns the errors of what could not be written; the rest is.
func (r *Registry) reconcile(ctx context.Context, current clientv3.LeaseID) error {
	r.look(current)
	errs := []error{r.writeNode(ctx, current)}
	for _, step := range []struct {
		pick func(*item) bool
		act  func(context.Context, []*draft) error
	}{
		{func(it *item) bool { return it.doubted || it.leaving && it.revision == 0 }, r.read},
		{func(it *item) bool { return it.due(current) }, func(ctx context.Context, batch []*draft) error { return r.write(ctx, batch, current) }},
		{func(it *item) bool { return it.leaving && it.revision != 0 }, r.leave},
	} {
		errs = append(errs, r.each(ctx, step.pick, step.act))
	}
	return errors.Join(errs...)
}

// draft is an item as it was when a transaction was made of it.
type draft struct {
	*item
	version int
	record  discovery.Instance
	value   string
	absent  bool // the key was not there
}

// each takes the items that are picked, batch by batch, until none is left or etcd
// fails. An item whose compare is lost has learnt from it and is picked again; one
// that etcd refuses is left for the next pass.
func (r *Registry) each(ctx context.Context, pick func(*item) bool, act func(context.Context, []*draft) error) error {
	var refused []error
	for ctx.Err() == nil {
		batch := r.draft(pick)
		if len(batch) == 0 {
			return errors.Join(refused...)
		}
		err := act(ctx, batch)
		if isRefusal(err) && len(batch) > 1 {
			for n := range batch { // one of them is to blame: it must not hold up the rest
				err := act(ctx, batch[n:n+1])
				r.note(batch[n:n+1], err)
				refused = append(refused, err)
			}
			continue
		}
		r.note(batch, err)
		if err != nil && !isRefusal(err) {
			return errors.Join(append(refused, err)...)
		}
		refused = append(refused, err)
	}
	return ctx.Err()
}

// isRefusal reports whether etcd refuses a transaction for what is in it, and not for
// how etcd is.
func isRefusal(err error) bool {
	return errors.Is(err, rpctypes.ErrPermissionDenied) || errors.Is(err, rpctypes.ErrRequestTooLarge)
}

// note keeps the error of a batch with its items, for [State].
func (r *Registry) note(batch []*draft, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range batch {
		d.err, d.refused = err, isRefusal(err)
	}
	r.count()
	r.announce()
}

// draft takes the next batch of the items that are picked, in the order of their keys.
func (r *Registry) draft(pick func(*item) bool) []*draft {
	r.mu.Lock()
	defer r.mu.Unlock()
	var batch []*draft
	now, size := time.Now(), 0
	for _, key := range slices.Sorted(maps.Keys(r.items)) {
		it := r.items[key]
		if it.refused || !pick(it) {
			continue
		}
		d := &draft{item: it, version: it.version, record: it.record(now), absent: it.revision == 0}
		d.value = string(d.record.Encode())
		if size += len(d.value); len(batch) > 0 && size > batchBytes {
			break
		}
		if batch = append(batch, d); len(batch) == batchOps {
			break
		}
	}
	return batch
}

// look begins a pass: it compares what was written with what the catalog shows, and
// doubts what others have changed.
func (r *Registry) look(current clientv3.LeaseID) {
	view, err := r.view.View()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, it := range r.items {
		it.refused = false
	}
	if err != nil {
		return // nothing to compare with yet
	}
	for _, it := range r.items {
		if (it.conflict != nil || it.lease == current) && !it.leaving && !it.doubted && it.contradicts(view.Snapshot) {
			it.doubted = true
		}
	}
	if r.nodeRevision != 0 && view.Snapshot.Revision() >= r.nodeRevision && !view.Snapshot.HasAgent(r.who.Node.Node, r.who.Owner) {
		r.nodeLease = 0
	}
}

// writeNode writes the agent's own record, unless it stands under the lease.
func (r *Registry) writeNode(ctx context.Context, current clientv3.LeaseID) error {
	r.mu.Lock()
	standing := r.nodeLease == current
	r.mu.Unlock()
	if standing {
		return nil
	}
	value, err := json.Marshal(r.who.Node)
	if err != nil {
		return fmt.Errorf("encode node %s: %w", r.who.Node.Node, err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	put, err := r.client.Put(ctx, r.keys.Node(r.who.Node.Node, r.who.Owner), string(value), clientv3.WithLease(current))
	if err != nil {
		return fmt.Errorf("write node %s: %w", r.who.Node.Node, err)
	}
	r.mu.Lock()
	r.nodeLease, r.nodeRevision = current, put.Header.Revision
	r.mu.Unlock()
	return nil
}

// read takes in what etcd holds under the keys of a batch.
func (r *Registry) read(ctx context.Context, batch []*draft) error {
	var gets []clientv3.Op
	for _, d := range batch {
		gets = append(gets, clientv3.OpGet(d.key))
	}
	return r.commit(ctx, batch, nil, gets, nil)
}

// write puts the records of a batch, if every key still is as it was last seen.
func (r *Registry) write(ctx context.Context, batch []*draft, current clientv3.LeaseID) error {
	batch = r.send(batch)
	if len(batch) == 0 {
		return nil
	}
	return r.swap(ctx, batch, current, func(d *draft, revision int64) {
		d.revision, d.seenAt, d.lease, d.seen = revision, revision, current, true
		d.written, d.created, d.err = d.version, d.absent, nil
		if d.item.version == d.version {
			d.instance = d.record
		}
		r.metrics.writes.Inc()
	})
}

// send notes that a batch is on its way to etcd. It leaves out what was removed, and
// forgotten as not sent, since the batch was made: nobody would take its record away.
func (r *Registry) send(batch []*draft) []*draft {
	r.mu.Lock()
	defer r.mu.Unlock()
	var wanted []*draft
	for _, d := range batch {
		if r.items[d.key] == d.item {
			d.sent = true
			wanted = append(wanted, d)
		}
	}
	return wanted
}

// leave marks the records of a batch as leaving, under a lease that lapses.
func (r *Registry) leave(ctx context.Context, batch []*draft) error {
	granting, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	lapse, err := r.client.Grant(granting, goodbye)
	if err != nil {
		return fmt.Errorf("deregister %s: %w", names(batch), err)
	}
	return r.swap(ctx, batch, lapse.ID, func(d *draft, revision int64) {
		d.revision, d.seenAt = revision, revision
		if d.item.leaving {
			r.gone = revision
			r.drop(d.item)
		}
	})
}

// swap puts a batch under a lease by compare-and-swap. done is called for each item
// when all are written, with r.mu held; otherwise the items learn what stands there.
func (r *Registry) swap(ctx context.Context, batch []*draft, under clientv3.LeaseID, done func(d *draft, revision int64)) error {
	var compares []clientv3.Cmp
	var puts, gets []clientv3.Op
	r.mu.Lock()
	for _, d := range batch {
		compares = append(compares, clientv3.Compare(clientv3.ModRevision(d.key), "=", d.revision))
		puts = append(puts, clientv3.OpPut(d.key, d.value, clientv3.WithLease(under)))
		gets = append(gets, clientv3.OpGet(d.key))
	}
	r.mu.Unlock()
	return r.commit(ctx, batch, compares, append(puts, gets...), done)
}

// commit runs one transaction over a batch. Without compares, ops are one Get for each
// item; with them, one Put each and then one Get each.
func (r *Registry) commit(ctx context.Context, batch []*draft, compares []clientv3.Cmp, ops []clientv3.Op, done func(d *draft, revision int64)) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	txn := r.client.Txn(ctx)
	if compares == nil {
		txn = txn.Then(ops...)
	} else {
		txn = txn.If(compares...).Then(ops[:len(batch)]...).Else(ops[len(batch):]...)
	}
	resp, err := txn.Commit()
	if err != nil {
		return fmt.Errorf("write %s: %w", names(batch), err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var altered []*draft
	for n, d := range batch {
		if compares != nil && resp.Succeeded {
			done(d, resp.Header.Revision)
			continue
		}
		var kv *mvccpb.KeyValue
		if got := resp.Responses[n].GetResponseRange(); len(got.GetKvs()) > 0 {
			kv = got.Kvs[0]
		}
		if r.learn(d.item, kv, resp.Header.Revision) {
			altered = append(altered, d)
		}
	}
	if len(altered) > 0 {
		r.metrics.repairs.Add(float64(len(altered)))
		r.log.Warn("records were removed or altered by somebody; writing them again", "instances", names(altered))
	}
	return nil
}

// learn takes in what etcd holds under an item's key, and reports whether somebody
// removed or altered what stood there under the present lease; r.mu is held.
func (r *Registry) learn(it *item, kv *mvccpb.KeyValue, at int64) (altered bool) {
	current, _ := r.session.Lease()
	stood, held := it.written != 0 && it.lease == current.ID, it.conflict != nil
	it.learn(kv, at, r.who, time.Now(), current.TTL)
	switch {
	case it.leaving && (kv == nil || it.conflict != nil):
		r.gone = at
		r.drop(it)
	case it.conflict != nil && !held:
		r.metrics.conflicts.Inc()
		r.log.Warn("instance is not registered: another agent has it", "service", it.instance.Service,
			"instance", it.instance.ID, "holder_node", it.conflict.Node, "holder_owner", it.conflict.Owner, "cloned", it.conflict.Cloned)
	}
	return stood && it.conflict == nil && it.written == 0
}

// failed reports a pass that etcd did not take, and has the lease verified if that is
// why.
func (r *Registry) failed(current clientv3.LeaseID, retry *discovery.Backoff, err error) {
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		r.session.Doubt(current)
	}
	r.metrics.failures.Inc()
	if retry.Failed() {
		r.log.Warn("cannot write to etcd; trying again", "failures", retry.Failures(), "error", err)
	}
}

// names shows a batch in an error.
func names(batch []*draft) string {
	first := batch[0].instance.Service + "/" + batch[0].instance.ID
	if len(batch) == 1 {
		return first
	}
	return fmt.Sprintf("%s and %d more", first, len(batch)-1)
}
