package reflector

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"disc/discovery/life"
	"disc/discovery/retry"
)

// watchedRange is a range that is watched, and the revision up to which the store has it.
type watchedRange struct {
	Range
	id       int64 // of its watch on the current stream
	revision int64 // 0: it was never listed
	keys     int64 // how many etcd has at that revision

	createdAt    int64 // revision of etcd when it had made the watch; 0: it has not said so yet
	olderAnswers int   // how many answers to progress requests that are older than the watch may still come
	progress     int64 // newest revision that an answer shows to be reached
	uncertain    bool  // behind a proxy: it may have left out changes; compare it with etcd

	// A range that covers others replaces their watches. Until these reach the revision
	// at which it was listed, they alone deliver the keys of theirs; after that its own
	// watch does, without the writes that they have delivered.
	listedAt  int64           // revision of its list
	nested    []*watchedRange // not replaced yet
	delivered []deliveredUpTo // by watches that it replaced
}

// deliveredUpTo is the revision up to which another watch delivered a part of a range.
type deliveredUpTo struct {
	Range
	revision int64
}

// Add lists a range and watches it from then on. It returns the number of its keys when
// the store has it. A range without keys is watched only if empty is set. A range that
// a watched one covers needs no watch of its own. While etcd is away, Add waits; it fails
// with the cause of the end of ctx.
func (r *Reflector) Add(ctx context.Context, rng Range, empty bool) (keys int, err error) {
	return r.add(ctx, rng, empty, func() func([]*mvccpb.KeyValue) error { return admitAll })
}

// AddWithin lists a range and watches it, as Add does, also if it is empty. It gives the pages of the
// list, while it is read, to a function; where that returns an error, the rest is not read and
// AddWithin returns that error. begin returns such a function for each attempt to list.
func (r *Reflector) AddWithin(ctx context.Context, rng Range, begin func() (admit func(page []*mvccpb.KeyValue) error)) error {
	_, err := r.add(ctx, rng, true, begin)
	return err
}

func admitAll([]*mvccpb.KeyValue) error { return nil }

func (r *Reflector) add(ctx context.Context, rng Range, empty bool, begin func() func([]*mvccpb.KeyValue) error) (keys int, err error) {
	for backoff := (retry.Backoff{}); ; backoff.Failed() {
		admit := begin()
		syncs, started := r.syncCount.Load(), time.Now()
		var listed []*mvccpb.KeyValue
		kv, err := r.awaitReader(ctx)
		if err != nil {
			return 0, err
		}
		at, err := List(ctx, *kv, rng, func(page []*mvccpb.KeyValue) error {
			listed = append(listed, page...)
			return admit(page)
		})
		if err != nil && r.reader.Load() != kv { // the reflector has dropped that connection
			continue
		}
		if status.Code(err) == codes.Unavailable { // it will drop it
			if backoff.Wait(ctx) != nil {
				return 0, context.Cause(ctx)
			}
			continue
		}
		if err != nil {
			return 0, err
		}
		if len(listed) == 0 && !empty {
			return 0, nil
		}
		var unchanged bool
		var failed error
		err = r.Do(ctx, func() {
			// A list that was read before a resync may be of another etcd.
			if unchanged = r.syncCount.Load() == syncs && r.identity.Cluster == at.Cluster; unchanged {
				failed = r.addListed(rng, listed, at, started)
			}
		})
		if err != nil || unchanged {
			return len(listed), errors.Join(err, failed)
		}
	}
}

// awaitReader waits until a member is watched, and returns the client that reads from it.
func (r *Reflector) awaitReader(ctx context.Context) (*clientv3.KV, error) {
	for {
		if kv := r.reader.Load(); kv != nil {
			return kv, nil
		}
		if err := r.Do(ctx, func() {}); err != nil {
			return nil, err
		}
	}
}

// addListed replaces a range in the store by its listing and starts a watch from there.
// Ranges within it that are watched stay as they are.
func (r *Reflector) addListed(rng Range, listed []*mvccpb.KeyValue, at life.Header, started time.Time) error {
	w := &watchedRange{Range: rng, revision: at.Revision, keys: int64(len(listed)), listedAt: at.Revision}
	for _, other := range r.ranges {
		if other.Covers(rng) {
			return nil
		}
		if rng.Covers(other.Range) {
			w.nested = append(w.nested, other)
		}
	}
	l := &Listing{Range: rng, Epoch: r.identity.Epoch, Started: started}
	for _, other := range w.nested {
		l.Except = append(l.Except, other.Range)
	}
	l.read = func(each func([]*mvccpb.KeyValue)) (life.Header, error) {
		each(slices.DeleteFunc(listed, func(kv *mvccpb.KeyValue) bool { return w.inNested(kv.Key) }))
		return at, nil
	}
	if err := r.store.Replace(l); err != nil {
		return err
	}
	r.identity.Revision = max(r.identity.Revision, at.Revision)
	r.ranges = append(r.ranges, w)
	r.startWatch(w)
	if len(w.nested) > 0 {
		r.askProgress()
	}
	return nil
}

// inNested reports whether the watch of a nested range delivers a key.
func (w *watchedRange) inNested(key []byte) bool {
	return slices.ContainsFunc(w.nested, func(other *watchedRange) bool { return other.Contains(string(key)) })
}

// alreadyDelivered reports whether a watch that this one replaced has delivered a write.
func (w *watchedRange) alreadyDelivered(kv *mvccpb.KeyValue) bool {
	return slices.ContainsFunc(w.delivered, func(d deliveredUpTo) bool { return kv.ModRevision <= d.revision && d.Contains(string(kv.Key)) })
}

// DeliveredRevision returns the revision up to which the store has received all writes in
// a watched range; 0: it is not watched. Each range has its own watch, and one may lag
// behind another. Call it only from the store's methods and from functions given to
// [Reflector.Do].
func (r *Reflector) DeliveredRevision(rng Range) int64 {
	var by *watchedRange // whose watch delivers it, without the nested ones: the narrowest that covers it
	within := int64(math.MaxInt64)
	for _, w := range r.ranges {
		switch {
		case w.Covers(rng):
			if by == nil || by.Covers(w.Range) {
				by = w
			}
		case rng.Covers(w.Range):
			within = min(within, w.revision)
		}
	}
	if by == nil {
		return 0
	}
	return min(by.revision, within)
}

// replaceNested stops the watches of nested ranges where all watches have reached the
// revision at which the outer range was listed.
func (r *Reflector) replaceNested(revision int64) {
	for _, w := range slices.Clone(r.ranges) {
		if len(w.nested) == 0 || revision < w.listedAt || slices.ContainsFunc(w.nested, func(other *watchedRange) bool { return other.reached() < w.listedAt }) {
			continue
		}
		for _, other := range w.nested {
			w.delivered = append(w.delivered, deliveredUpTo{other.Range, other.revision})
			r.stopWatch(other)
		}
		w.nested = nil
	}
}

// pruneDelivered drops the entries that no future event can match.
func (w *watchedRange) pruneDelivered() {
	w.delivered = slices.DeleteFunc(w.delivered, func(d deliveredUpTo) bool { return d.revision <= w.revision })
}

// Narrow replaces the watch of a range by watches of ranges within it, without a gap. to
// returns these; it runs serialized with the store's methods and drops the other keys
// from the store. If a wider range is watched, whose watch replaces or has replaced that of the
// range, only to is called.
func (r *Reflector) Narrow(ctx context.Context, from Range, to func() []Range) error {
	return r.Do(ctx, func() {
		if slices.ContainsFunc(r.ranges, func(w *watchedRange) bool { return w.Range != from && w.Covers(from) }) {
			to()
		} else if n := slices.IndexFunc(r.ranges, func(w *watchedRange) bool { return w.Range == from }); n >= 0 {
			r.narrowTo(r.ranges[n], to())
		}
	})
}

// narrowTo stops a watch and starts watches of ranges within it, from where it has got.
func (r *Reflector) narrowTo(w *watchedRange, to []Range) {
	r.stopWatch(w)
	for _, other := range w.nested {
		if !slices.ContainsFunc(to, func(kept Range) bool { return kept.Covers(other.Range) }) {
			r.stopWatch(other)
		}
	}
	for _, rng := range to {
		if slices.ContainsFunc(w.nested, func(other *watchedRange) bool { return other.Range == rng }) {
			continue
		}
		inner := &watchedRange{Range: rng, revision: w.reached(), listedAt: w.listedAt}
		for _, other := range w.nested {
			if rng.Covers(other.Range) { // it still delivers its keys
				inner.nested = append(inner.nested, other)
			}
		}
		for _, d := range w.delivered {
			if d.Range == rng {
				inner.revision = max(inner.revision, d.revision)
			}
		}
		r.ranges = append(r.ranges, inner)
		r.startWatch(inner)
		inner.uncertain = r.proxied() // how many keys it had at that revision is not known
	}
}

// Remove stops watching a range that [Reflector.Add] added. It then calls dropped,
// serialized with the store's methods, to drop the range's keys from the store.
func (r *Reflector) Remove(ctx context.Context, rng Range, dropped func()) error {
	return r.Do(ctx, func() {
		if n := slices.IndexFunc(r.ranges, func(w *watchedRange) bool { return w.Range == rng }); n >= 0 {
			r.stopWatch(r.ranges[n])
		}
		dropped()
	})
}

// startWatch starts the watch of a range on the current stream.
func (r *Reflector) startWatch(w *watchedRange) {
	r.lastID++
	w.id = r.lastID
	r.progress.prune()
	w.createdAt, w.olderAnswers, w.progress, w.uncertain = 0, len(r.progress.asked), 0, false
	r.watches[w.id] = w
	from, to := w.spelled(r.spellings[r.endpoint])
	r.stream.Watch(w.id, from, to, w.revision)
}

// stopWatch stops the watch of a range. Responses of it that still arrive are ignored.
func (r *Reflector) stopWatch(w *watchedRange) {
	delete(r.watches, w.id)
	r.ranges = slices.DeleteFunc(r.ranges, func(other *watchedRange) bool { return other == w })
	r.stream.Cancel(w.id)
}

// dropNested drops the ranges that others cover, before those are compared with etcd.
func (r *Reflector) dropNested() {
	var all []*watchedRange
	for _, w := range r.ranges {
		w.nested, w.delivered = nil, nil
		if !slices.ContainsFunc(r.ranges, func(other *watchedRange) bool { return other != w && other.Covers(w.Range) }) {
			all = append(all, w)
		}
	}
	slices.SortFunc(all, func(a, b *watchedRange) int { return strings.Compare(a.From, b.From) })
	r.ranges = all
}
