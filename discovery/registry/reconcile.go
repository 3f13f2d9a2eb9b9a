package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/etcd"
)

// The bounds of one transaction. etcd's own are 128 operations and 1.5 MiB.
const (
	batchOps   = 100
	batchBytes = 512 << 10
)

// errContended means that others change a record as fast as it is written.
var errContended = errors.New("other writers change the record as fast as it is written")

// maxRounds is how often one reconciliation writes a record that somebody else changes at
// the same time.
const maxRounds = 3

// draft is a desired instance, and its state when it became part of a transaction.
type draft struct {
	*desired
	generation int
	record     discovery.Instance
	value      string
	load       loadState
	absent     bool // the key did not exist
}

// reconcile makes etcd equal to the desired set once: it reads suspect keys, writes due
// records, then tombstones, then load reports. An instance that etcd refuses does not hold
// up the others; the error names it.
func (r *Registry) reconcile(ctx context.Context, current clientv3.LeaseID) error {
	refused := []error{r.writeNode(ctx, current)}
	if err := refused[0]; err != nil && !isRefusal(err) {
		return err
	}
	for _, step := range []struct {
		selects func(*desired) bool
		act     func(context.Context, []*draft) error
	}{
		{(*desired).needsRead, r.read},
		{func(d *desired) bool { return d.needsWrite(current) }, func(ctx context.Context, batch []*draft) error { return r.write(ctx, batch, current) }},
		{(*desired).needsTombstone, r.writeTombstones},
		{func(d *desired) bool { return d.needsLoadWrite(current, time.Now()) }, func(ctx context.Context, batch []*draft) error { return r.writeLoads(ctx, batch, current) }},
	} {
		err := r.forEachBatch(ctx, step.selects, step.act)
		if err != nil && !isRefusal(err) {
			return err
		}
		refused = append(refused, err)
	}
	return errors.Join(refused...)
}

// forEachBatch calls act with batches of the selected instances. A compare that
// fails records the present state of the key. If the instance is still selected then, act is
// called with it again, in up to maxRounds rounds.
func (r *Registry) forEachBatch(ctx context.Context, selects func(*desired) bool, act func(context.Context, []*draft) error) error {
	var refused []error
	all := r.selectKeys(nil, selects)
	if len(all) == 0 {
		return nil
	}
	for range maxRounds {
		for keys := r.selectKeys(all, selects); len(keys) > 0; {
			var batch []*draft
			batch, keys = r.nextBatch(keys, selects)
			err := r.attempt(ctx, batch, act)
			if err != nil && !isRefusal(err) {
				return err
			}
			refused = append(refused, err)
		}
	}
	if left := r.selectKeys(all, selects); len(left) > 0 {
		refused = append(refused, fmt.Errorf("write %s: %w", left[0], errContended))
	}
	return errors.Join(refused...)
}

// attempt calls act with a batch. If etcd refuses the batch, it calls act with each draft
// alone, so that the one that is refused does not hold up the others.
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
	return etcd.Refused(err).Content() || errors.Is(err, errContended)
}

// recordError records a batch's error, or nil, with its instances, for [State].
func (r *Registry) recordError(batch []*draft, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range batch {
		d.err, d.refused = err, isRefusal(err)
	}
	r.notifyWaiters()
}

// selectKeys returns the keys whose instances are selected and not refused, of the given
// keys or, if keys is nil, of all, sorted.
func (r *Registry) selectKeys(keys []string, selects func(*desired) bool) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var selected []string
	if keys == nil {
		for key, d := range r.desired {
			if !d.refused && selects(d) {
				selected = append(selected, key)
			}
		}
		slices.Sort(selected)
		return selected
	}
	for _, key := range keys {
		if d, ok := r.desired[key]; ok && !d.refused && selects(d) {
			selected = append(selected, key)
		}
	}
	return selected
}

// nextBatch makes a batch of as many of the keys as fit into a transaction, and returns the
// rest.
func (r *Registry) nextBatch(keys []string, selects func(*desired) bool) (batch []*draft, rest []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, size, ops := time.Now(), 0, 0
	for n, key := range keys {
		want, ok := r.desired[key]
		if !ok || want.refused || !selects(want) {
			continue
		}
		d := &draft{desired: want, generation: want.generation, record: want.newRecord(now), load: want.load, absent: want.modRevision == 0}
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

// deletesLoad reports whether the draft's transaction must delete a load report: with a
// tombstone, if a report may be in etcd.
func (d *draft) deletesLoad() bool { return d.record.Leaving && !d.load.attemptedAt.IsZero() }

// describe names a batch in an error.
func describe(batch []*draft) string {
	first := batch[0].record.Service + "/" + batch[0].record.ID
	if len(batch) == 1 {
		return first
	}
	return fmt.Sprintf("%s and %d more", first, len(batch)-1)
}
