package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"disc/discovery"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	mvccpb "go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Bounds of a list.
const (
	pageSize = 1000             // keys
	pageTime = 10 * time.Second // to wait for a page
)

// header is what etcd says of itself with an answer.
type header struct {
	cluster  uint64
	term     uint64
	revision int64
}

func headerOf(h *pb.ResponseHeader) header {
	return header{h.GetClusterId(), h.GetRaftTerm(), h.GetRevision()}
}

// list reads a half-open range at one revision, page by page: while one is worked on,
// the next is on its way. etcd before 3.7 does not stream. It has no each called when
// it says so, and gives the pages one by one.
func list(ctx context.Context, client *clientv3.Client, from, to string, each func([]*mvccpb.KeyValue), opts ...clientv3.OpOption) (header, error) {
	opts = append([]clientv3.OpOption{clientv3.WithRange(to)}, opts...)
	at, err := streamed(ctx, client, from, each, opts)
	if status.Code(err) == codes.Unimplemented {
		at, err = paged(ctx, client, from, each, opts)
	}
	if err != nil {
		return header{}, fmt.Errorf("list %s: %w", from, err)
	}
	return at, nil
}

// streamed lists by one call.
func streamed(ctx context.Context, client *clientv3.Client, from string, each func([]*mvccpb.KeyValue), opts []clientv3.OpOption) (header, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(pageTime, func() { cancel(fmt.Errorf("no answer within %v", pageTime)) })
	defer late.Stop()
	chunks, err := client.GetStream(ctx, from, opts...)
	if err != nil {
		return header{}, because(ctx, err)
	}
	var last *pb.ResponseHeader
	for chunk := range chunks { // to its end: its sender would hang
		late.Reset(pageTime)
		if chunk.Err() != nil {
			err = because(ctx, chunk.Err())
			continue
		}
		each(chunk.Kvs)
		last = chunk.Header // only the last one has it
	}
	if err == nil && last == nil {
		err = errors.New("etcd ended the list before its end")
	}
	return headerOf(last), err
}

// because returns why a call failed: the cause of its context's end, if that was why.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// paged lists by a call for each page.
func paged(ctx context.Context, client *clientv3.Client, from string, each func([]*mvccpb.KeyValue), opts []clientv3.OpOption) (header, error) {
	var at header
	var err error
	ready := make(chan []*mvccpb.KeyValue)
	go func() {
		defer close(ready)
		for more := true; more; {
			var page *clientv3.GetResponse
			if page, err = readPage(ctx, client, from, at.revision, opts); err != nil {
				return
			}
			if at.revision == 0 {
				at = headerOf(page.Header)
			}
			if more = page.More && len(page.Kvs) > 0; more {
				from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
			}
			ready <- page.Kvs
		}
	}()
	for page := range ready {
		each(page)
	}
	return at, err
}

// readPage reads a page at a revision; 0 is the newest, or what the options say.
func readPage(ctx context.Context, client *clientv3.Client, from string, revision int64, opts []clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, pageTime)
	defer cancel()
	opts = append([]clientv3.OpOption{clientv3.WithLimit(pageSize), clientv3.WithRev(revision)}, opts...)
	return client.Get(ctx, from, opts...)
}

// change turns what etcd lists or reports into a change.
func change(key discovery.Key, kv *mvccpb.KeyValue) discovery.Change {
	value := kv.Value
	if value == nil {
		value = []byte{} // nil would be a deletion
	}
	return discovery.Change{Key: key, Value: value, Created: kv.CreateRevision, Modified: kv.ModRevision, Lease: kv.Lease}
}

// Load reads a snapshot once: of one service, or of the whole namespace with an empty
// name. Records that cannot be read are left out; broken says which.
func Load(ctx context.Context, client *clientv3.Client, keys discovery.Keys, service string) (snapshot *discovery.Snapshot, broken []discovery.BrokenRecord, err error) {
	from, to := keys.CatalogRange()
	if service != "" {
		from = keys.Service(service)
		to = clientv3.GetPrefixRangeEnd(from)
	}
	b := builder{keys: keys, snapshot: discovery.EmptySnapshot()}
	at, err := list(ctx, client, from, to, b.add)
	if err != nil {
		return nil, nil, err
	}
	return b.finish(at.revision), b.broken, nil
}

// builder makes a snapshot of a list, page by page.
type builder struct {
	keys     discovery.Keys
	snapshot *discovery.Snapshot
	broken   []discovery.BrokenRecord
	size     int
}

// add takes a page.
func (b *builder) add(page []*mvccpb.KeyValue) {
	changes := make([]discovery.Change, len(page))
	for n, kv := range page {
		changes[n] = change(parse(b.keys, kv.Key), kv)
	}
	known, alien := separate(changes)
	next, _, broken := b.snapshot.Apply(unknownRevision, known)
	b.snapshot, b.broken = next, append(append(b.broken, broken...), alien...)
	b.size += len(page)
}

// unknownRevision stands for the revision of a list that has not said it yet: above
// all that it lists.
const unknownRevision = 1<<63 - 1

// finish returns the snapshot, complete up to a revision.
func (b *builder) finish(revision int64) *discovery.Snapshot {
	next, _, _ := b.snapshot.Apply(revision, nil)
	return next
}
