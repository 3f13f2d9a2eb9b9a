package catalog

import (
	"context"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/reflector"
	"disc/discovery/view"
)

// changeFrom returns the change that a key of a list or of an event stands for.
func changeFrom(key discovery.Key, kv *mvccpb.KeyValue) view.Change {
	value := kv.Value
	if value == nil {
		value = []byte{} // nil means a deletion
	}
	return view.Change{Key: key, Value: value, Created: kv.CreateRevision, Modified: kv.ModRevision, Lease: kv.Lease}
}

// ReadOnce reads a snapshot of one service, or of the whole namespace with an empty name.
// Records that cannot be read are left out and returned in broken.
func ReadOnce(ctx context.Context, client *clientv3.Client, keys discovery.Keys, service string) (snapshot *view.Snapshot, broken []discovery.BrokenRecord, err error) {
	from, to := keys.ScopeRange(serviceScope(service))
	b := builder{keys: keys, snapshot: view.EmptySnapshot()}
	at, err := reflector.List(ctx, client, reflector.Range{From: from, To: to}, func(page []*mvccpb.KeyValue) error {
		b.add(page)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return b.finish(at.Revision), b.broken, nil
}

// builder builds a snapshot from a list, page by page.
type builder struct {
	keys     discovery.Keys
	snapshot *view.Snapshot
	broken   []discovery.BrokenRecord
	orders   []view.Change // on suspects
}

// add adds a page of the list.
func (b *builder) add(page []*mvccpb.KeyValue) {
	changes := make([]view.Change, len(page))
	for n, kv := range page {
		changes[n] = changeFrom(parse(b.keys, kv.Key), kv)
	}
	b.orders = append(b.orders, suspectOrders(changes)...)
	known, alien := splitAlien(changes)
	next, _, broken := b.snapshot.Apply(unknownRevision, known)
	b.snapshot, b.broken = next, append(append(b.broken, broken...), alien...)
}

// unknownRevision stands for the revision of a list until that is known. It is above the
// revisions of all its keys.
const unknownRevision = 1<<63 - 1

// finish returns the snapshot at the list's revision.
func (b *builder) finish(revision int64) *view.Snapshot {
	next, _, _ := b.snapshot.Apply(revision, nil)
	return next
}
