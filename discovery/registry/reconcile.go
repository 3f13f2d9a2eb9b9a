package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
)

// Bounds of one transaction: etcd takes at most 128 operations and 1.5 MiB.
const (
	batchOps   = 100
	batchBytes = 512 << 10
)

// errContended is that others change a record as fast as it is written.
var errContended = errors.New("others change it as fast as it is written")

// maxRounds is how often in a pass an instance is written whose record somebody else
// changes at the same time.
const maxRounds = 3

// draft is an item as it was when a transaction was made of it.
type draft struct {
	*desired
	generation int
	record     discovery.Instance
	value      string
	load       loadState
	absent     bool // the key was not there
}

// reconcile makes one pass: what is in doubt is read, what is due is written, what
// leaves says goodbye. What etcd refuses holds up nothing else; the error tells of it.
func (r *Registry) reconcile(ctx context.Context, current clientv3.LeaseID) error {
	refused := []error{r.writeNode(ctx, current)}
	if err := refused[0]; err != nil && !isRefusal(err) {
		return err
	}
	for _, step := range []struct {
		picks func(*desired) bool
		act   func(context.Context, []*draft) error
	}{
		{(*desired).needsRead, r.read},
		{func(it *desired) bool { return it.needsWrite(current) }, func(ctx context.Context, batch []*draft) error { return r.write(ctx, batch, current) }},
		{(*desired).needsTombstone, r.writeTombstones},
		{func(it *desired) bool { return it.needsLoadWrite(current, time.Now()) }, func(ctx context.Context, batch []*draft) error { return r.writeLoads(ctx, batch, current) }},
	} {
		err := r.forEachBatch(ctx, step.picks, step.act)
		if err != nil && !isRefusal(err) {
			return err
		}
		refused = append(refused, err)
	}
	return errors.Join(refused...)
}

// forEachBatch acts on the items that are picked, batch by batch. An item whose compare is lost
// has learnt from it and is picked again.
func (r *Registry) forEachBatch(ctx context.Context, picks func(*desired) bool, act func(context.Context, []*draft) error) error {
	var refused []error
	all := r.selectKeys(nil, picks)
	if len(all) == 0 {
		return nil
	}
	for range maxRounds {
		for keys := r.selectKeys(all, picks); len(keys) > 0; {
			var batch []*draft
			batch, keys = r.nextBatch(keys, picks)
			err := r.attempt(ctx, batch, act)
			if err != nil && !isRefusal(err) {
				return err
			}
			refused = append(refused, err)
		}
	}
	if left := r.selectKeys(all, picks); len(left) > 0 {
		refused = append(refused, fmt.Errorf("write %s: %w", left[0], errContended))
	}
	return errors.Join(refused...)
}

// attempt acts on a batch. If etcd refuses it, it acts on each item alone, since one of
// them is to blame and must not hold up the rest.
func (r *Registry) attempt(ctx context.Context, batch []*draft, act func(context.Context, []*draft) error) error {
	if len(batch) == 0 {
		return nil
	}
	r.heartbeat.Begin()
	err := act(ctx, batch)
	if !isRefusal(err) || len(batch) == 1 {
		r.recordError(batch, err)
		return err
	}
	var refused []error
	for n := range batch {
		err := r.attempt(ctx, batch[n:n+1], act)
		if err != nil && !isRefusal(err) {
			return err
		}
		refused = append(refused, err)
	}
	return errors.Join(refused...)
}

// isRefusal reports whether a transaction failed for what is in it, and not for how
// etcd is.
func isRefusal(err error) bool {
	return errors.Is(err, rpctypes.ErrPermissionDenied) || errors.Is(err, rpctypes.ErrRequestTooLarge) || errors.Is(err, errContended)
}

// recordError keeps the error of a batch with its items, for [State].
func (r *Registry) recordError(batch []*draft, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range batch {
		d.err, d.refused = err, isRefusal(err)
	}
	r.notifyWaiters()
}

// selectKeys returns those of the given keys whose items are picked; nil stands for all.
func (r *Registry) selectKeys(keys []string, picks func(*desired) bool) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var picked []string
	if keys == nil {
		for key, it := range r.desired {
			if !it.refused && picks(it) {
				picked = append(picked, key)
			}
		}
		slices.Sort(picked)
		return picked
	}
	for _, key := range keys {
		if it, ok := r.desired[key]; ok && !it.refused && picks(it) {
			picked = append(picked, key)
		}
	}
	return picked
}

// nextBatch makes a batch of the first of the keys, and returns the others.
func (r *Registry) nextBatch(keys []string, picks func(*desired) bool) (batch []*draft, rest []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, size, ops := time.Now(), 0, 0
	for n, key := range keys {
		it, ok := r.desired[key]
		if !ok || it.refused || !picks(it) {
			continue
		}
		d := &draft{desired: it, generation: it.generation, record: it.newRecord(now), load: it.load, absent: it.modRevision == 0}
		d.value = string(d.record.Encode())
		ops++
		if d.deletesLoad() {
			ops++
		}
		if size += len(d.value); ops > batchOps || len(batch) > 0 && size > batchBytes {
			return batch, keys[n:]
		}
		batch = append(batch, d)
	}
	return batch, nil
}

// deletesLoad reports whether a goodbye is to take a load report along.
func (d *draft) deletesLoad() bool { return d.record.Leaving && !d.load.attemptedAt.IsZero() }

// describe shows a batch in an error.
func describe(batch []*draft) string {
	first := batch[0].record.Service + "/" + batch[0].record.ID
	if len(batch) == 1 {
		return first
	}
	return fmt.Sprintf("%s and %d more", first, len(batch)-1)
}
