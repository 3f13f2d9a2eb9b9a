package reflector

import (
	"cmp"
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
	firstPage   = 100              // keys; values may be large
	pageSize    = 1000             // keys of a page, at most
	pageBytes   = 4 << 20          // of a page, unless its keys are larger than those before
	pageTimeout = 10 * time.Second // for one page
)

// List reads a range at one revision and calls each with every page, in the order of the
// keys. It fetches the next page while each runs. An error of each ends the list, without the
// rest, and is returned. After an error, discard the pages.
func List(ctx context.Context, kv clientv3.KV, rng Range, each func(page []*mvccpb.KeyValue) error, opts ...clientv3.OpOption) (life.Header, error) {
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
func listStreamed(ctx context.Context, kv clientv3.KV, from string, each func([]*mvccpb.KeyValue) error, opts []clientv3.OpOption) (life.Header, error) {
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
		switch {
		case err != nil:
		case chunk.Err() != nil:
			err = retry.CauseOf(ctx, chunk.Err())
		default:
			if err = each(chunk.Kvs); err != nil {
				cancel(err)
			}
			last = chunk.Header // only the last chunk has one
		}
	}
	if err == nil && last == nil {
		err = errors.New("etcd ended the list early")
	}
	return life.HeaderOf(last), err
}

// listPaged lists by one call for each page.
func listPaged(ctx context.Context, kv clientv3.KV, from string, each func([]*mvccpb.KeyValue) error, opts []clientv3.OpOption) (life.Header, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var at life.Header
	var err error
	ready := make(chan []*mvccpb.KeyValue)
	go func() {
		defer close(ready)
		limit := firstPage
		for more := true; more; {
			var page *clientv3.GetResponse
			if page, err = readPage(ctx, kv, from, at.Revision, limit, opts); err != nil {
				return
			}
			if at.Revision == 0 {
				at = life.HeaderOf(page.Header)
			}
			if more = page.More && len(page.Kvs) > 0; more {
				from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
				limit = nextPage(page.Kvs)
			}
			ready <- page.Kvs
		}
	}()
	var refused error
	for page := range ready { // drain it even after an error, or its sender hangs
		if refused == nil {
			if refused = each(page); refused != nil {
				cancel(refused)
			}
		}
	}
	return at, cmp.Or(refused, err)
}

// nextPage returns the number of keys of the page after one: as many as make pageBytes, if they
// are as large.
func nextPage(page []*mvccpb.KeyValue) int {
	size := 1
	for _, kv := range page {
		size += len(kv.Key) + len(kv.Value)
	}
	return min(max(pageBytes/size*len(page), firstPage), pageSize)
}

// readPage reads a page of up to limit keys at a revision; 0: the newest, or the one in opts.
func readPage(ctx context.Context, kv clientv3.KV, from string, revision int64, limit int, opts []clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	opts = append([]clientv3.OpOption{clientv3.WithLimit(int64(limit)), clientv3.WithRev(revision)}, opts...)
	return kv.Get(ctx, from, opts...)
}
