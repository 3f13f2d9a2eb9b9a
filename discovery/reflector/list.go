package reflector

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"disc/discovery/life"
	"disc/discovery/retry"
)

// Bounds of a list.
const (
	pageSize    = 1000             // keys
	pageTimeout = 10 * time.Second // for one page
)

// List reads a range at one revision and calls each with every page, in the order of the
// keys. It fetches the next page while each runs. After an error, discard the pages.
func List(ctx context.Context, kv clientv3.KV, rng Range, each func(page []*mvccpb.KeyValue), opts ...clientv3.OpOption) (life.Header, error) {
	// etcd before 3.7 does not stream. It refuses before each is called; then read page by
	// page.
	opts = append([]clientv3.OpOption{clientv3.WithRange(rng.To)}, opts...)
	at, err := listStreamed(ctx, kv, rng.From, each, opts)
	if status.Code(err) == codes.Unimplemented {
		at, err = listPaged(ctx, kv, rng.From, each, opts)
	}
	if err != nil {
		return life.Header{}, fmt.Errorf("list %s: %w", rng.From, err)
	}
	return at, nil
}

// listStreamed lists by a single streaming call.
func listStreamed(ctx context.Context, kv clientv3.KV, from string, each func([]*mvccpb.KeyValue), opts []clientv3.OpOption) (life.Header, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(pageTimeout, func() { cancel(fmt.Errorf("no answer within %v", pageTimeout)) })
	defer timer.Stop()
	chunks, err := kv.GetStream(ctx, from, opts...)
	if err != nil {
		return life.Header{}, retry.CauseOf(ctx, err)
	}
	var last *pb.ResponseHeader
	for chunk := range chunks { // drain it even after an error, or its sender hangs
		timer.Reset(pageTimeout)
		if chunk.Err() != nil {
			err = retry.CauseOf(ctx, chunk.Err())
			continue
		}
		each(chunk.Kvs)
		last = chunk.Header // only the last chunk has one
	}
	if err == nil && last == nil {
		err = errors.New("etcd ended the list early")
	}
	return life.HeaderOf(last), err
}

// listPaged lists by one call for each page.
func listPaged(ctx context.Context, kv clientv3.KV, from string, each func([]*mvccpb.KeyValue), opts []clientv3.OpOption) (life.Header, error) {
	var at life.Header
	var err error
	ready := make(chan []*mvccpb.KeyValue)
	go func() {
		defer close(ready)
		for more := true; more; {
			var page *clientv3.GetResponse
			if page, err = readPage(ctx, kv, from, at.Revision, opts); err != nil {
				return
			}
			if at.Revision == 0 {
				at = life.HeaderOf(page.Header)
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

// readPage reads a page at a revision; 0: the newest, or the one in opts.
func readPage(ctx context.Context, kv clientv3.KV, from string, revision int64, opts []clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	opts = append([]clientv3.OpOption{clientv3.WithLimit(pageSize), clientv3.WithRev(revision)}, opts...)
	return kv.Get(ctx, from, opts...)
}
