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
)

// Bounds of a list.
const (
	pageSize    = 1000             // keys
	pageTimeout = 10 * time.Second // to wait for a page
)

// Header is what etcd says of itself with an answer.
type Header struct {
	Cluster  uint64
	Term     uint64
	Revision int64
}

func headerOf(h *pb.ResponseHeader) Header {
	return Header{h.GetClusterId(), h.GetRaftTerm(), h.GetRevision()}
}

// List reads a range at one revision, page by page: while one is worked on, the next is
// on its way. After an error, what was read is worth nothing.
func List(ctx context.Context, kv clientv3.KV, r Range, each func(page []*mvccpb.KeyValue), opts ...clientv3.OpOption) (Header, error) {
	// etcd before 3.7 does not stream. It has no each called when it says so, and gives
	// the pages one by one.
	opts = append([]clientv3.OpOption{clientv3.WithRange(r.To)}, opts...)
	at, err := listStreamed(ctx, kv, r.From, each, opts)
	if status.Code(err) == codes.Unimplemented {
		at, err = listPaged(ctx, kv, r.From, each, opts)
	}
	if err != nil {
		return Header{}, fmt.Errorf("list %s: %w", r.From, err)
	}
	return at, nil
}

// listStreamed lists by one call.
func listStreamed(ctx context.Context, kv clientv3.KV, from string, each func([]*mvccpb.KeyValue), opts []clientv3.OpOption) (Header, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(pageTimeout, func() { cancel(fmt.Errorf("no answer within %v", pageTimeout)) })
	defer late.Stop()
	chunks, err := kv.GetStream(ctx, from, opts...)
	if err != nil {
		return Header{}, CauseOf(ctx, err)
	}
	var last *pb.ResponseHeader
	for chunk := range chunks { // to its end: its sender would hang
		late.Reset(pageTimeout)
		if chunk.Err() != nil {
			err = CauseOf(ctx, chunk.Err())
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

// CauseOf returns why a call failed: the cause of its context's end, if that was why.
func CauseOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// listPaged lists by a call for each page.
func listPaged(ctx context.Context, kv clientv3.KV, from string, each func([]*mvccpb.KeyValue), opts []clientv3.OpOption) (Header, error) {
	var at Header
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
func readPage(ctx context.Context, kv clientv3.KV, from string, revision int64, opts []clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	opts = append([]clientv3.OpOption{clientv3.WithLimit(pageSize), clientv3.WithRev(revision)}, opts...)
	return kv.Get(ctx, from, opts...)
}
