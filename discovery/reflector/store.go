package reflector

import (
	"iter"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/life"
)

// Range is a half-open range of keys, [From, To).
type Range struct{ From, To string }

// Prefix returns the range of the keys that begin with prefix, which should end in "/".
func Prefix(prefix string) Range { return Range{prefix, clientv3.GetPrefixRangeEnd(prefix)} }

// Contains reports whether a key lies in the range.
func (r Range) Contains(key string) bool { return key >= r.From && key < r.To }

// Covers reports whether every key of the other range lies in the range.
func (r Range) Covers(other Range) bool { return other.From >= r.From && other.To <= r.To }

// Store holds ranges of keys; a [Reflector] keeps it equal to etcd. The reflector calls
// one method at a time. They should be quick: the watch waits for them.
type Store interface {
	// Known yields the keys of a range that the store has, each with the revision of its
	// last write. It must yield those too whose values it cannot read.
	Known(Range) iter.Seq2[string, int64]
	// Replace discards the range, except l.Except, and rebuilds it from the listing, which
	// it reads once. On error the store is unchanged.
	Replace(l *Listing) error
	// Apply applies changes. Without any, the update only confirms that the store is
	// current.
	Apply(Update)
}

// Update is a batch of changes, or only the confirmation that a store is current.
type Update struct {
	// Events are in the order of their revisions, each delivered once. A deletion that was
	// found after a gap has the revision of the list that lacks the key.
	Events []*clientv3.Event
	// Apart reports that several ranges are watched, so that the events of another range may
	// come later although they are older.
	Apart bool
	// Revision is etcd's newest that an event or a list has shown. A single range may lag
	// behind it; see [Reflector.DeliveredRevision].
	Revision int64
	// Confirmed is a time at which etcd had nothing newer.
	Confirmed time.Time
	// ConfirmedRevision is etcd's revision at a time not before Confirmed, which the watches of
	// all ranges have reached; 0: not known anew. It moves on also where nothing changes.
	ConfirmedRevision int64
	// Progress is a revision that the watches of all ranges have reached, but for those of
	// Behind and of the ranges added later; 0: not known anew. It moves on also where nothing
	// changes, after [Reflector.RequestProgress] was called once.
	Progress int64
	Behind   []Range
	// Epoch is the value of the epoch key; see [Options.Epoch].
	Epoch string
	// Resynced reports that the events are those of a gap, found by comparing with etcd.
	Resynced bool
}

// Listing is the content of one range at one revision of etcd.
type Listing struct {
	Range
	// Except are parts of the range that the store already has and must not replace.
	Except []Range
	// Epoch is the value of the epoch key; see [Options.Epoch].
	Epoch string
	// StartedOver reports that etcd was wiped, restored or replaced, so that earlier
	// revisions are void.
	StartedOver bool
	// Started is a time before the listing was read.
	Started time.Time

	read func(each func([]*mvccpb.KeyValue)) (life.Header, error)
	at   life.Header
	size int
}

// Read calls each with the pages of the range, in the order of its keys, and returns the
// range's revision. After an error, discard the pages. Call it once.
func (l *Listing) Read(each func(page []*mvccpb.KeyValue)) (revision int64, err error) {
	l.at, err = l.read(func(page []*mvccpb.KeyValue) {
		l.size += len(page)
		each(page)
	})
	return l.at.Revision, err
}
