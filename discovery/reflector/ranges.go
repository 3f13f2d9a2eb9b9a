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

// followed is a range, and up to where the mirror has it.
type followed struct {
	Range
	id       int64 // of its watch on the present stream
	revision int64 // 0: it was never listed

	// A range that holds others takes them over. Until they have come to where it was
	// listed, what is theirs is told by them alone; after that by it alone, but for
	// what they have told.
	listed int64 // the revision of its list
	within []*followed
	told   []deliveredUpTo
}

// deliveredUpTo says up to where a part of a range was told by another watch.
type deliveredUpTo struct {
	Range
	revision int64
}

// Contains reports whether a key lies in the range.
func (r Range) Contains(key string) bool { return key >= r.From && key < r.To }

func (r Range) covers(other Range) bool { return other.From >= r.From && other.To <= r.To }

// Add lists a range and follows it from then on. It returns when the mirror has it,
// with how many keys it holds; one without keys is followed only if empty is set. A
// range within one that is followed already is left to that.
func (f *Reflector) Add(ctx context.Context, r Range, empty bool) (keys int, err error) {
	for {
		began, started := f.syncs.Load(), time.Now()
		var listed []*mvccpb.KeyValue
		kv, err := f.reads(ctx)
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
			if current = f.syncs.Load() == began && f.life.Cluster == at.Cluster; current {
				failed = f.add(r, listed, at, started)
			}
		})
		if err != nil || current {
			return len(listed), errors.Join(err, failed)
		}
	}
}

// reads returns what reads from the member that is followed, once one is.
func (f *Reflector) reads(ctx context.Context) (*clientv3.KV, error) {
	for {
		if kv := f.reader.Load(); kv != nil {
			return kv, nil
		}
		if err := f.Do(ctx, func() {}); err != nil {
			return nil, err
		}
	}
}

// add has the mirror take a list, and starts the watch from it. What is followed within
// the range stays as it is.
func (f *Reflector) add(r Range, listed []*mvccpb.KeyValue, at Header, started time.Time) error {
	w := &followed{Range: r, revision: at.Revision, listed: at.Revision}
	for _, other := range f.ranges {
		if other.covers(r) {
			return nil
		}
		if r.covers(other.Range) {
			w.within = append(w.within, other)
		}
	}
	l := &Listing{Range: r, Epoch: f.life.epoch, Started: started}
	for _, other := range w.within {
		l.Except = append(l.Except, other.Range)
	}
	l.read = func(each func([]*mvccpb.KeyValue)) (Header, error) {
		each(slices.DeleteFunc(listed, func(kv *mvccpb.KeyValue) bool { return w.foreign(kv.Key) }))
		return at, nil
	}
	if err := f.mirror.Replace(l); err != nil {
		return err
	}
	f.life.Revision = max(f.life.Revision, at.Revision)
	f.ranges = append(f.ranges, w)
	f.start(w)
	if len(w.within) > 0 {
		f.stream.askProgress()
	}
	return nil
}

// foreign reports whether a key is told of by another watch.
func (w *followed) foreign(key []byte) bool {
	return slices.ContainsFunc(w.within, func(other *followed) bool { return other.Contains(string(key)) })
}

// known reports whether another watch has told of a write.
func (w *followed) known(kv *mvccpb.KeyValue) bool {
	return slices.ContainsFunc(w.told, func(m deliveredUpTo) bool { return kv.ModRevision <= m.revision && m.Contains(string(kv.Key)) })
}

// DeliveredRevision returns the revision up to which all writes in a range that is followed have been
// told: each range is told of by a watch of its own, and one may lag behind another. It is
// for the mirror's methods, and for what [Reflector.Do] calls.
func (f *Reflector) DeliveredRevision(r Range) int64 {
	var by *followed // what tells of it: the narrowest that holds it, but for those within
	within := int64(math.MaxInt64)
	for _, w := range f.ranges {
		switch {
		case w.covers(r):
			if by == nil || by.covers(w.Range) {
				by = w
			}
		case r.covers(w.Range):
			within = min(within, w.revision)
		}
	}
	if by == nil {
		return 0
	}
	return min(by.revision, within)
}

// settle lets ranges take over those within them, once all watches have come to a
// revision.
func (f *Reflector) settle(revision int64) {
	for _, w := range slices.Clone(f.ranges) {
		if len(w.within) == 0 || revision < w.listed {
			continue
		}
		for _, other := range w.within {
			w.told = append(w.told, deliveredUpTo{other.Range, other.revision})
			f.stop(other)
		}
		w.within = nil
	}
}

// forget drops the marks that everything to come is beyond.
func (w *followed) forget() {
	w.told = slices.DeleteFunc(w.told, func(m deliveredUpTo) bool { return m.revision <= w.revision })
}

// Narrow has some ranges within another followed instead of it, without a gap. Which
// these are says to, called between two calls of the mirror's methods; what else the
// mirror has is the mirror's to drop.
func (f *Reflector) Narrow(ctx context.Context, from Range, to func() []Range) error {
	return f.Do(ctx, func() {
		if n := slices.IndexFunc(f.ranges, func(w *followed) bool { return w.Range == from }); n >= 0 {
			f.narrow(f.ranges[n], to())
		}
	})
}

// narrow stops a watch and starts those of some of its parts.
func (f *Reflector) narrow(w *followed, to []Range) {
	f.stop(w)
	for _, other := range w.within {
		if !slices.Contains(to, other.Range) {
			f.stop(other)
		}
	}
	for _, r := range to {
		if slices.ContainsFunc(w.within, func(other *followed) bool { return other.Range == r }) {
			continue
		}
		part := &followed{Range: r, revision: w.revision}
		for _, m := range w.told {
			if m.Range == r {
				part.revision = max(part.revision, m.revision)
			}
		}
		f.ranges = append(f.ranges, part)
		f.start(part)
	}
}

// Remove ends the following of a range that [Reflector.Add] began. What the mirror has
// of it is the mirror's to drop, which it does in dropped.
func (f *Reflector) Remove(ctx context.Context, r Range, dropped func()) error {
	return f.Do(ctx, func() {
		if n := slices.IndexFunc(f.ranges, func(w *followed) bool { return w.Range == r }); n >= 0 {
			f.stop(f.ranges[n])
		}
		dropped()
	})
}

// start starts the watch of a range on the present stream.
func (f *Reflector) start(w *followed) {
	f.lastID++
	w.id = f.lastID
	f.watches[w.id] = w
	f.stream.watch(w.id, w.Range, w.revision)
}

// stop ends the watch of a range. What it brings from now on is not listened to.
func (f *Reflector) stop(w *followed) {
	delete(f.watches, w.id)
	f.ranges = slices.DeleteFunc(f.ranges, func(other *followed) bool { return other == w })
	f.stream.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: w.id}}})
}

// merge drops the ranges that lie within others, before these are compared with etcd.
func (f *Reflector) merge() {
	var all []*followed
	for _, w := range f.ranges {
		w.within, w.told = nil, nil
		if !slices.ContainsFunc(f.ranges, func(other *followed) bool { return other != w && other.covers(w.Range) }) {
			all = append(all, w)
		}
	}
	slices.SortFunc(all, func(a, b *followed) int { return strings.Compare(a.From, b.From) })
	f.ranges = all
}
