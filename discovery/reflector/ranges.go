package reflector

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// watchedRange is a range, and up to where the mirror has it.
type watchedRange struct {
	Range
	id       int64 // of its watch on the present stream
	revision int64 // 0: it was never listed

	// A range that holds others takes them over. Until they have come to where it was
	// listed, what is theirs is told by them alone; after that by it alone, but for
	// what they have told.
	listedAt  int64 // the revision of its list
	nested    []*watchedRange
	delivered []deliveredUpTo
}

// deliveredUpTo says up to where a part of a range was told by another watch.
type deliveredUpTo struct {
	Range
	revision int64
}

// Contains reports whether a key lies in the range.
func (r Range) Contains(key string) bool { return key >= r.From && key < r.To }

func (r Range) Covers(other Range) bool { return other.From >= r.From && other.To <= r.To }

// Add lists a range and follows it from then on. It returns when the mirror has it,
// with how many keys it holds; one without keys is followed only if empty is set. A
// range within one that is followed already is left to that.
func (f *Reflector) Add(ctx context.Context, r Range, empty bool) (keys int, err error) {
	for {
		began, started := f.syncCount.Load(), time.Now()
		var listed []*mvccpb.KeyValue
		kv, err := f.awaitReader(ctx)
		if err != nil {
			return 0, err
		}
		at, err := List(ctx, *kv, r, func(page []*mvccpb.KeyValue) { listed = append(listed, page...) })
		if err != nil && f.reader.Load() != kv { // its connection was given up
			continue
		}
		if err != nil {
			return 0, err
		}
		if len(listed) == 0 && !empty {
			return 0, nil
		}
		var current bool
		var failed error
		err = f.Do(ctx, func() {
			// A list from before a gap may be one of another life of etcd.
			if current = f.syncCount.Load() == began && f.identity.Cluster == at.Cluster; current {
				failed = f.addListed(r, listed, at, started)
			}
		})
		if err != nil || current {
			return len(listed), errors.Join(err, failed)
		}
	}
}

// awaitReader returns what reads from the member that is followed, once one is.
func (f *Reflector) awaitReader(ctx context.Context) (*clientv3.KV, error) {
	for {
		if kv := f.reader.Load(); kv != nil {
			return kv, nil
		}
		if err := f.Do(ctx, func() {}); err != nil {
			return nil, err
		}
	}
}

// addListed has the mirror take a list, and starts the watch from it. What is followed within
// the range stays as it is.
func (f *Reflector) addListed(r Range, listed []*mvccpb.KeyValue, at Header, started time.Time) error {
	w := &watchedRange{Range: r, revision: at.Revision, listedAt: at.Revision}
	for _, other := range f.ranges {
		if other.Covers(r) {
			return nil
		}
		if r.Covers(other.Range) {
			w.nested = append(w.nested, other)
		}
	}
	l := &Listing{Range: r, Epoch: f.identity.epoch, Started: started}
	for _, other := range w.nested {
		l.Except = append(l.Except, other.Range)
	}
	l.read = func(each func([]*mvccpb.KeyValue)) (Header, error) {
		each(slices.DeleteFunc(listed, func(kv *mvccpb.KeyValue) bool { return w.inNested(kv.Key) }))
		return at, nil
	}
	if err := f.store.Replace(l); err != nil {
		return err
	}
	f.identity.Revision = max(f.identity.Revision, at.Revision)
	f.ranges = append(f.ranges, w)
	f.startWatch(w)
	if len(w.nested) > 0 {
		f.stream.askProgress()
	}
	return nil
}

// inNested reports whether a key is told of by another watch.
func (w *watchedRange) inNested(key []byte) bool {
	return slices.ContainsFunc(w.nested, func(other *watchedRange) bool { return other.Contains(string(key)) })
}

// alreadyDelivered reports whether another watch has told of a write.
func (w *watchedRange) alreadyDelivered(kv *mvccpb.KeyValue) bool {
	return slices.ContainsFunc(w.delivered, func(m deliveredUpTo) bool { return kv.ModRevision <= m.revision && m.Contains(string(kv.Key)) })
}

// DeliveredRevision returns the revision up to which all writes in a range that is followed have been
// told: each range is told of by a watch of its own, and one may lag behind another. It is
// for the mirror's methods, and for what [Reflector.Do] calls.
func (f *Reflector) DeliveredRevision(r Range) int64 {
	var by *watchedRange // what tells of it: the narrowest that holds it, but for those within
	within := int64(math.MaxInt64)
	for _, w := range f.ranges {
		switch {
		case w.Covers(r):
			if by == nil || by.Covers(w.Range) {
				by = w
			}
		case r.Covers(w.Range):
			within = min(within, w.revision)
		}
	}
	if by == nil {
		return 0
	}
	return min(by.revision, within)
}

// replaceNested lets ranges take over those within them, once all watches have come to a
// revision.
func (f *Reflector) replaceNested(revision int64) {
	for _, w := range slices.Clone(f.ranges) {
		if len(w.nested) == 0 || revision < w.listedAt {
			continue
		}
		for _, other := range w.nested {
			w.delivered = append(w.delivered, deliveredUpTo{other.Range, other.revision})
			f.stopWatch(other)
		}
		w.nested = nil
	}
}

// pruneDelivered drops the marks that everything to come is beyond.
func (w *watchedRange) pruneDelivered() {
	w.delivered = slices.DeleteFunc(w.delivered, func(m deliveredUpTo) bool { return m.revision <= w.revision })
}

// Narrow has some ranges within another followed instead of it, without a gap. Which
// these are says to, called between two calls of the mirror's methods; what else the
// mirror has is the mirror's to drop.
func (f *Reflector) Narrow(ctx context.Context, from Range, to func() []Range) error {
	return f.Do(ctx, func() {
		if n := slices.IndexFunc(f.ranges, func(w *watchedRange) bool { return w.Range == from }); n >= 0 {
			f.narrowTo(f.ranges[n], to())
		}
	})
}

// narrowTo stops a watch and starts those of some of its parts.
func (f *Reflector) narrowTo(w *watchedRange, to []Range) {
	f.stopWatch(w)
	for _, other := range w.nested {
		if !slices.Contains(to, other.Range) {
			f.stopWatch(other)
		}
	}
	for _, r := range to {
		if slices.ContainsFunc(w.nested, func(other *watchedRange) bool { return other.Range == r }) {
			continue
		}
		part := &watchedRange{Range: r, revision: w.revision}
		for _, m := range w.delivered {
			if m.Range == r {
				part.revision = max(part.revision, m.revision)
			}
		}
		f.ranges = append(f.ranges, part)
		f.startWatch(part)
	}
}

// Remove ends the following of a range that [Reflector.Add] began. What the mirror has
// of it is the mirror's to drop, which it does in dropped.
func (f *Reflector) Remove(ctx context.Context, r Range, dropped func()) error {
	return f.Do(ctx, func() {
		if n := slices.IndexFunc(f.ranges, func(w *watchedRange) bool { return w.Range == r }); n >= 0 {
			f.stopWatch(f.ranges[n])
		}
		dropped()
	})
}

// startWatch starts the watch of a range on the present stream.
func (f *Reflector) startWatch(w *watchedRange) {
	f.lastID++
	w.id = f.lastID
	f.watches[w.id] = w
	f.stream.watch(w.id, w.Range, w.revision)
}

// stopWatch ends the watch of a range. What it brings from now on is not listened to.
func (f *Reflector) stopWatch(w *watchedRange) {
	delete(f.watches, w.id)
	f.ranges = slices.DeleteFunc(f.ranges, func(other *watchedRange) bool { return other == w })
	f.stream.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: w.id}}})
}

// dropNested drops the ranges that lie within others, before these are compared with etcd.
func (f *Reflector) dropNested() {
	var all []*watchedRange
	for _, w := range f.ranges {
		w.nested, w.delivered = nil, nil
		if !slices.ContainsFunc(f.ranges, func(other *watchedRange) bool { return other != w && other.Covers(w.Range) }) {
			all = append(all, w)
		}
	}
	slices.SortFunc(all, func(a, b *watchedRange) int { return strings.Compare(a.From, b.From) })
	f.ranges = all
}
