package reflector

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/life"
	"disc/discovery/retry"
)

// Behind etcd's grpc-proxy a watch reports no progress, and it may miss changes without an error. So
// the reflector reads, of each range, how many keys it has and the newest revision of one, at a
// revision of etcd. A watch that has delivered these has delivered all up to that revision, but for
// keys that were created and deleted meanwhile.

// errMissed is the reason to abandon a watch that has not delivered what etcd has.
var errMissed = fmt.Errorf("etcd's grpc-proxy has not delivered a change for %v", WatchTimeout)

// Bounds of the cost of reading ranges: etcd looks at each key of them.
const (
	keysPerSecond    = 1000             // of an agent's ranges that etcd looks at, on average
	maxProofInterval = 10 * time.Second // for ranges that are larger
	rangesPerRead    = 100              // of one transaction; etcd accepts at most 128

	// compareInterval is the average time until the keys of all ranges are compared with etcd, in case
	// that the proxy has left out changes in a way that nothing shows.
	compareInterval = 10 * time.Minute
)

// rangeProof is what etcd has of a range at a revision.
type rangeProof struct {
	w        *watchedRange
	revision int64
	keys     int64
	newest   int64 // the newest revision of a key; 0: there is none
}

// delivered reports whether the range's watch has delivered all up to the proof's revision.
func (p rangeProof) delivered() bool {
	return p.w.reached() >= p.revision || p.w.revision >= p.newest && p.w.keys == p.keys
}

// proxied reports whether etcd's grpc-proxy answers.
func (r *Reflector) proxied() bool { return r.stream != nil && r.stream.Proxied() }

// proofInterval returns the time until the ranges are read again, for an interval between two
// confirmations.
func (r *Reflector) proofInterval(interval time.Duration) time.Duration {
	var keys int64
	for _, w := range r.ranges {
		keys += w.keys
	}
	return max(interval, r.options.ProofInterval(keys))
}

func defaultProofInterval(keys int64) time.Duration {
	return min(time.Duration(keys)*time.Second/keysPerSecond, maxProofInterval)
}

// readProofs reads the ranges that are not known to have reached a revision, by linearizable reads.
func (r *Reflector) readProofs(ctx context.Context, revision int64) ([]rangeProof, error) {
	var proofs []rangeProof
	if err := r.Do(ctx, func() {
		for _, w := range r.ranges {
			if w.reached() < revision {
				proofs = append(proofs, rangeProof{w: w})
			}
		}
	}); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, WatchTimeout, errWatchTimeout)
	defer cancel()
	for batch := range slices.Chunk(proofs, rangesPerRead) {
		if err := r.readProof(ctx, batch); err != nil {
			return nil, retry.CauseOf(ctx, err)
		}
	}
	return proofs, nil
}

// readProof reads the ranges of proofs. The requests are always the same, because the proxy keeps
// each different one.
func (r *Reflector) readProof(ctx context.Context, proofs []rangeProof) error {
	ops := make([]clientv3.Op, len(proofs))
	for n, p := range proofs {
		ops[n] = clientv3.OpGet(p.w.From, clientv3.WithRange(p.w.To), clientv3.WithKeysOnly(),
			clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortDescend), clientv3.WithLimit(1))
	}
	txn, err := r.kv.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return fmt.Errorf("read the newest of %d ranges: %w", len(proofs), err)
	}
	for n := range proofs {
		found := txn.Responses[n].GetResponseRange()
		proofs[n].revision, proofs[n].keys = txn.Header.Revision, found.Count
		for _, kv := range found.Kvs {
			proofs[n].newest = kv.ModRevision
		}
	}
	return nil
}

// confirmProxied does what confirmLoop does, behind a proxy: it reads the ranges, and hands what they have to
// settle.
func (r *Reflector) confirmProxied(ctx context.Context, before life.Identity, healthy func()) (fresh confirmation, err error) {
	before.Term = 0 // each answer is another member's
	if err := r.compareUncertain(ctx); err != nil {
		return confirmation{}, err
	}
	if fresh, err = r.readConfirmation(ctx, before); err != nil {
		return confirmation{}, err
	}
	proofs, err := r.readProofs(ctx, fresh.identity.Revision)
	if err != nil {
		return confirmation{}, err
	}
	return fresh, r.Do(ctx, func() {
		r.lastConfirmation, r.proofs = fresh, proofs
		if r.settle() {
			r.setError(nil)
			healthy()
		}
	})
}

// noteHeader notes whether events, of which last is the newest, are older than the header of the
// response that they came in. Where etcd has sent all, it is their own.
func (w *watchedRange) noteHeader(header, last int64) { w.uncertain = w.uncertain || header > last }

// isUncertain reports whether a range is to be compared with etcd before the store is confirmed.
func (r *Reflector) isUncertain() bool {
	return slices.ContainsFunc(r.ranges, func(w *watchedRange) bool { return w.uncertain })
}

// nextComparison returns when the keys of all ranges are next to be compared with etcd, spread so that
// the agents of a fleet do not do that together.
func nextComparison() time.Time {
	return time.Now().Add(compareInterval/2 + rand.N(compareInterval))
}

// compareUncertain compares the ranges with etcd, key by key, whose watches may have left out changes;
// those of all ranges if that is due.
func (r *Reflector) compareUncertain(ctx context.Context) error {
	var failed error
	err := r.Do(ctx, func() {
		if time.Now().After(r.compareAt) {
			r.compareAt = nextComparison()
			for _, w := range r.ranges {
				w.uncertain = true
			}
		}
		for _, w := range slices.Clone(r.ranges) {
			if w.uncertain {
				if failed = r.compare(ctx, w); failed != nil {
					return
				}
			}
		}
	})
	return cmp.Or(err, failed)
}

// compare makes a range in the store equal to etcd while it is watched. The watch need not deliver
// anymore what the comparison has shown, nor need those of the ranges within it.
func (r *Reflector) compare(ctx context.Context, w *watchedRange) error {
	changes, at, err := r.catchUp(ctx, w, r.identity, r.confirmed)
	if err != nil {
		return err
	}
	r.identity.Revision = max(r.identity.Revision, at.Revision)
	w.uncertain = false
	w.pruneDelivered()
	for _, other := range w.nested {
		other.revision, other.keys, other.uncertain = at.Revision, 0, false
		for range r.store.Known(other.Range) {
			other.keys++
		}
		other.pruneDelivered()
	}
	if changes > 0 {
		r.log.Info("compared a range with etcd, because etcd's grpc-proxy may have left out changes", "range", w.From, "changes", changes)
	}
	return nil
}

// settle confirms the store once all watches have delivered what the proofs have, and reports whether
// they had.
func (r *Reflector) settle() bool {
	r.proofs = slices.DeleteFunc(r.proofs, func(p rangeProof) bool { return !slices.Contains(r.ranges, p.w) })
	if r.isUncertain() || slices.ContainsFunc(r.proofs, func(p rangeProof) bool { return !p.delivered() }) {
		return false
	}
	for _, p := range r.proofs {
		if p.w.revision < p.revision {
			p.w.revision, p.w.keys = p.revision, p.keys
			p.w.pruneDelivered()
		}
	}
	r.proofs = nil
	reached := r.lastConfirmation.identity.Revision
	r.progress.revision = max(r.progress.revision, reached)
	r.replaceNested(reached)
	if r.confirm(reached) {
		r.apply(nil, len(r.ranges) > 1, true)
	}
	return true
}

// spellings is how many ways there are to request a range.
const spellings = 8

// spelled returns the n-th way to request a watch of the range. Each is another range to etcd, with
// the same keys: those without a long row of bytes 0xff. A proxy whose own watch of a range has ended,
// as when etcd has compacted what it missed, goes on to give it to all who request that range.
func (r Range) spelled(n int) (from, to string) {
	last := len(r.To) - 1
	switch n %= spellings; {
	case n == 0 || last < 0:
		return r.From, r.To
	case r.To == r.From+"\x00": // a single key
		if n%2 == 1 {
			return r.From, ""
		}
		return r.From, r.To
	case r.To[last] == 0:
		return r.From, r.To
	}
	return r.From, r.To[:last] + string([]byte{r.To[last] - 1}) + strings.Repeat("\xff", 8+n)
}

// count counts a write that a range's own watch delivers.
func (w *watchedRange) count(e *mvccpb.Event) {
	switch {
	case e.Type == mvccpb.DELETE:
		w.keys--
	case e.Kv.Version == 1:
		w.keys++
	}
}
