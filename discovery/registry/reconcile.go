package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/etcd"
)

// The bounds of one transaction. etcd's own are 128 operations and 1.5 MiB, unless it is set
// otherwise; fewer operations are found out.
const (
	batchOps   = 100
	batchBytes = 512 << 10
)

// draft is a desired instance, and its state when it became part of a transaction.
type draft struct {
	*desired
	generation int
	record     discovery.Instance
	value      string
	load       loadState
	compared   int64 // the key's revision, which must not have changed; 0: the key did not exist
}

// step is one kind of work of a reconciliation.
type step struct {
	needs   func(*desired) bool     // this work
	pending func(*desired) bool     // it is not done yet, with what comes after it
	attempt func(*desired) *attempt // when it may be done
	act     func(context.Context, []*draft) error
}

// reconcile makes etcd equal to the desired set once: it reads suspect keys, writes due
// records, then tombstones, then load reports. The agent's own record comes last, so that no
// reader that sees it takes instances that are not back yet for removed. An instance that etcd
// refuses does not hold up the others, and has a next attempt of its own. The error is one that
// concerns all.
func (r *Registry) reconcile(ctx context.Context, current clientv3.LeaseID) error {
	var refused refusals
	defer r.reportRefusals(&refused)
	if err := r.reconcileRecords(ctx, current, &refused); err != nil {
		return err
	}
	if err := r.attemptNode(ctx, current, &refused); err != nil {
		return err
	}
	due := func(d *desired) bool { return d.needsLoadWrite(current, time.Now()) }
	return r.perform(ctx, step{due, due, func(d *desired) *attempt { return &d.load.attempt }, func(ctx context.Context, batch []*draft) error {
		return r.writeLoads(ctx, batch, current)
	}}, &refused)
}

// reconcileRecords reads and writes the records and tombstones. It does so again if writes have
// lost to another change for the first time: under a new lease all do, since their keys went
// with the old one.
func (r *Registry) reconcileRecords(ctx context.Context, current clientv3.LeaseID, refused *refusals) error {
	unsettled := func(d *desired) bool { return d.needsRead() || d.needsWrite(current) || d.needsTombstone() }
	next := func(d *desired) *attempt { return &d.attempt }
	for range 2 {
		refused.again = false
		for _, s := range []step{
			{(*desired).needsRead, unsettled, next, r.read},
			{func(d *desired) bool { return d.needsWrite(current) }, unsettled, next, func(ctx context.Context, batch []*draft) error { return r.write(ctx, batch, current) }},
			{(*desired).needsTombstone, unsettled, next, r.writeTombstones},
		} {
			if err := r.perform(ctx, s, refused); err != nil {
				return err
			}
		}
		if !refused.again {
			return nil
		}
	}
	return nil
}

// perform does a step for all instances that need it and whose attempt is due: first for those
// that have not had to wait, then for the others.
func (r *Registry) perform(ctx context.Context, s step, refused *refusals) error {
	fresh, failed := r.dueKeys(s)
	if err := r.performBatches(ctx, s, fresh, batchOps, refused); err != nil {
		return err
	}
	return r.performBatches(ctx, s, failed, 1, refused)
}

// performBatches does a step for keys, at first for up to most of them at once. A batch that
// etcd refuses is halved until the instance to blame is alone; it must wait, and the batches
// grow again with each success. When only refusals come, the rest waits, too.
func (r *Registry) performBatches(ctx context.Context, s step, keys []string, most int, refused *refusals) error {
	for len(keys) > 0 {
		batch, rest := r.nextBatch(keys, s, most)
		if len(batch) == 0 {
			return nil
		}
		r.heartbeat.Begin()
		err := s.act(ctx, batch)
		tooMany := errors.Is(err, rpctypes.ErrTooManyOps)
		switch {
		case err == nil:
			r.batchDone(s, batch, refused)
			keys, most = rest, min(2*most, batchOps)
		case !isRefusal(err):
			r.recordError(batch, err)
			return err
		case len(batch) == 1:
			keys = r.refuse(s, batch[0], err, rest, refused)
		case tooMany:
			r.maxOps = max(1, countOps(batch)/2)
		default:
			most = len(batch) / 2
		}
	}
	return nil
}

// isRefusal reports whether a transaction failed for what is in it, and not for how
// etcd is.
func isRefusal(err error) bool { return etcd.Refused(err).Content() }

// batchDone ends the attempt of each instance of a batch that etcd accepted. Where another
// writer's change came first, the instance has failed; others of its batch are retried at once.
func (r *Registry) batchDone(s step, batch []*draft, refused *refusals) {
	r.mu.Lock()
	defer r.mu.Unlock()
	refused.succeeded()
	now := time.Now()
	for _, d := range batch {
		if !r.has(d.desired) {
			continue // it has left
		}
		a := s.attempt(d.desired)
		d.err = nil
		switch {
		case !s.pending(d.desired):
			*a = attempt{}
		case s.needs(d.desired) && d.desired.generation == d.generation:
			if d.desired.modRevision != d.compared || len(batch) == 1 {
				r.countContention(a, d, now, refused)
			}
			refused.again = refused.again || a.due(now)
		}
		r.update(d.desired)
	}
	r.notifyWaiters()
}

// countContention counts that another writer came before a write.
func (r *Registry) countContention(a *attempt, d *draft, now time.Time, refused *refusals) {
	if r.retries.contended(a, now); a.failures > 0 {
		d.err = contentionError(d)
		refused.add(d.err, *a)
	}
}

// refuse makes an instance wait that etcd refuses alone, and with it, when only refusals come,
// the rest of the keys. It returns the keys to go on with. What a caller has changed meanwhile is
// attempted by the next pass.
func (r *Registry) refuse(s step, d *draft, err error, rest []string, refused *refusals) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.notifyWaiters()
	if !r.has(d.desired) || d.desired.generation != d.generation {
		return rest
	}
	d.err = err
	a, now := s.attempt(d.desired), time.Now()
	fresh := a.at.IsZero()
	r.retries.refused(a, now)
	r.update(d.desired)
	refused.add(err, *a)
	if etcd.Refused(err) != etcd.RefusedPermission {
		return rest
	}
	ofService, all := refused.denied(d.record.Service)
	if !ofService && !all {
		return rest
	}
	untried := attempt{at: r.retries.next(firstRetry, now)} // of services that may well be allowed
	refusedOf := r.refusedByService(s)
	waits := fmt.Errorf("waits, because etcd refuses other records: %w", err)
	return slices.DeleteFunc(rest, func(key string) bool {
		other, ok := r.desired[key]
		switch {
		case !ok || !s.needs(other) || !fresh && s.attempt(other).at.IsZero():
			return true // it was changed meanwhile
		case !all && other.instance.Service != d.record.Service:
			return false
		case refusedOf[other.instance.Service] == 0:
			s.attempt(other).wait(untried)
		default:
			s.attempt(other).wait(*a)
		}
		r.update(other)
		other.err = waits
		refused.waiting++
		return true
	})
}

// recordError records a batch's error with its instances, for [State].
func (r *Registry) recordError(batch []*draft, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range batch {
		if r.has(d.desired) {
			d.err = err
			r.update(d.desired)
		}
	}
	r.notifyWaiters()
}

// dueKeys returns the keys of the instances that need a step and whose attempt is due: those
// that have not had to wait, and the others. Both are sorted by service, and begin with the
// services and instances that were refused least, so that nothing comes after others for ever.
func (r *Registry) dueKeys(s step) (fresh, failed []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for d := range r.queue.dueBy(now) {
		a := s.attempt(d)
		switch {
		case !s.needs(d) || !a.due(now):
		case a.at.IsZero():
			fresh = append(fresh, d.key)
		default:
			failed = append(failed, d.key)
		}
	}
	if len(fresh)+len(failed) == 0 {
		return nil, nil
	}
	refused := r.refusedByService(s)
	compare := func(one, other string) int {
		a, b := r.desired[one], r.desired[other]
		return cmp.Or(cmp.Compare(refused[a.instance.Service], refused[b.instance.Service]), cmp.Compare(a.instance.Service, b.instance.Service),
			cmp.Compare(s.attempt(a).refused, s.attempt(b).refused), cmp.Compare(one, other))
	}
	slices.SortFunc(fresh, compare)
	slices.SortFunc(failed, compare)
	return fresh, failed
}

// refusedByService returns how often etcd has refused a step for the instances of each service,
// if it has. r.mu is held.
func (r *Registry) refusedByService(s step) map[string]int {
	refused := map[string]int{}
	for d := range r.refused {
		if n := s.attempt(d).refused; n > 0 {
			refused[d.instance.Service] += n
		}
	}
	return refused
}

// nextBatch makes a batch of the first keys, up to most of them and as many as fit into a
// transaction, and returns the rest.
func (r *Registry) nextBatch(keys []string, s step, most int) (batch []*draft, rest []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, size, ops := time.Now(), 0, 0
	for n, key := range keys {
		want, ok := r.desired[key]
		if !ok || !s.needs(want) {
			continue
		}
		d := &draft{desired: want, generation: want.generation, record: want.newRecord(now), load: want.load, compared: want.modRevision}
		d.value = string(d.record.Encode())
		ops += d.ops()
		size += len(d.value)
		if len(batch) == most || len(batch) > 0 && (ops > r.maxOps || size > batchBytes) {
			return batch, keys[n:]
		}
		batch = append(batch, d)
	}
	return batch, nil
}

// ops returns the number of the draft's operations in a transaction.
func (d *draft) ops() int {
	if d.deletesLoad() {
		return 2
	}
	return 1
}

func countOps(batch []*draft) (n int) {
	for _, d := range batch {
		n += d.ops()
	}
	return n
}

// deletesLoad reports whether the draft's transaction must delete a load report: with a
// tombstone, if a report may be in etcd.
func (d *draft) deletesLoad() bool { return d.record.Leaving && d.load.sent }

// describe names a batch in an error.
func describe(batch []*draft) string {
	first := batch[0].record.Service + "/" + batch[0].record.ID
	if len(batch) == 1 {
		return first
	}
	return fmt.Sprintf("%s and %d more", first, len(batch)-1)
}
