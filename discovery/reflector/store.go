package reflector

import (
	"iter"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Range is a half-open range of keys, [From, To).
type Range struct{ From, To string }

// Prefix is the range of the keys that begin with a prefix, which should end in "/".
func Prefix(prefix string) Range { return Range{prefix, clientv3.GetPrefixRangeEnd(prefix)} }

// Store is what a [Reflector] keeps equal to etcd. Its methods are called one at a time
// and should not take long: the watch waits for them.
type Store interface {
	// Known yields the keys of a range that the mirror has, each with the revision of
	// its last write. It must have those too that it could not make sense of.
	Known(Range) iter.Seq2[string, int64]
	// Replace takes a range anew, but for what is excepted, since nothing that is known of it can be trusted or
	// there is nothing. It reads the listing; when that fails it leaves the mirror as it
	// was and returns the error.
	Replace(*Listing) error
	// Apply takes changes, or that there are none.
	Apply(Update)
}

// Update is what a mirror is told: what has changed, or only that it is current.
type Update struct {
	// Events are in the order of their revisions, each told once. A deletion that was
	// found after a gap has the revision at which it was missed.
	Events []*clientv3.Event
	// Revision is the newest of etcd's that was told of anything. What is followed may lag
	// behind it; see [Reflector.DeliveredRevision].
	Revision int64
	// Confirmed is a moment at which etcd had nothing newer.
	Confirmed time.Time
	// Epoch is the value of the epoch key; see [Options.Epoch].
	Epoch string
}

// Listing is one range as it stands in etcd at one revision.
type Listing struct {
	Range
	// Except are parts of the range that the mirror has already and keeps.
	Except []Range
	// Epoch is the value of the epoch key; see [Options.Epoch].
	Epoch string
	// StartedOver says that the etcd before is no more: it was wiped, restored or replaced,
	// and its revisions mean nothing now.
	StartedOver bool
	// Started is a moment before etcd was read.
	Started time.Time

	read func(each func([]*mvccpb.KeyValue)) (Header, error)
	at   Header
	size int
}

// Read reads the range in the order of its keys, page by page, and returns its revision.
// After an error, what was read is worth nothing. It is called once.
func (l *Listing) Read(each func(page []*mvccpb.KeyValue)) (revision int64, err error) {
	l.at, err = l.read(func(page []*mvccpb.KeyValue) {
		l.size += len(page)
		each(page)
	})
	return l.at.Revision, err
}
