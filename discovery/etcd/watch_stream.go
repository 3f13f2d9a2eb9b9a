package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"disc/discovery/retry"
)

// WatchTimeout is how long etcd may take to open a watch, and to answer it.
const WatchTimeout = 5 * time.Second

// idOffset is added to the ids of watches on their way to etcd, so that they differ from those that
// etcd's grpc-proxy gives: it ignores the ids of the requests and counts from 0.
const idOffset = 1 << 20

// WatchStream carries any number of watches. clientv3's watcher would reopen the stream by itself,
// from the revision that it had reached: on an etcd that was wiped or restored meanwhile it then
// waits for ever, or misses earlier changes.
type WatchStream struct {
	stream    pb.Watch_WatchClient
	cancel    context.CancelFunc
	responses chan *pb.WatchResponse
	err       error // why responses was closed
	running   sync.WaitGroup
	proxied   atomic.Bool // a grpc-proxy answers
	refused   string      // why a watch was refused that has no id; "": none was

	wake    retry.Signal // there are pending requests
	mu      sync.Mutex
	pending []*pb.WatchRequest
	known   bool               // whether a grpc-proxy answers: a watch was made
	held    []*pb.WatchRequest // until that is known
	ids     []int64            // of the watches, in the order of the requests; nil where etcd itself answers
}

// OpenWatch opens a stream without watches, within [WatchTimeout]. It ends with ctx. Close it.
func OpenWatch(ctx context.Context, conn *grpc.ClientConn) (*WatchStream, error) {
	ctx, end := context.WithCancelCause(clientv3.WithRequireLeader(ctx))
	cancel := func() { end(nil) }
	timer := time.AfterFunc(WatchTimeout, func() { end(context.DeadlineExceeded) })
	defer timer.Stop()
	stream, err := pb.NewWatchClient(conn).Watch(ctx, grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(math.MaxInt32))
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open watch: %w", err)
	}
	s := &WatchStream{stream: stream, cancel: cancel, responses: make(chan *pb.WatchResponse, 64), wake: retry.NewSignal()}
	s.running.Go(s.receive)
	s.running.Go(func() { s.transmit(ctx) })
	return s, nil
}

// Responses returns what etcd sends, each response assembled from its fragments. It is closed when
// the stream ends.
func (s *WatchStream) Responses() <-chan *pb.WatchResponse { return s.responses }

// Watch starts a watch of the keys from a key up to another, which is not included; "": of the one
// key. It begins with the changes at revision. Give one that is there already: started from the next
// one, etcd 3.5 and newer would not report progress before that exists.
func (s *WatchStream) Watch(id int64, from, to string, revision int64) {
	create := &pb.WatchCreateRequest{WatchId: id + idOffset, Key: []byte(from), StartRevision: revision, ProgressNotify: true, Fragment: true}
	if to != "" {
		create.RangeEnd = []byte(to)
	}
	s.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}})
}

// Cancel ends a watch. Responses of it may still arrive.
func (s *WatchStream) Cancel(id int64) {
	s.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id + idOffset}}})
}

// AskProgress asks etcd for the revision that all watches have reached. A grpc-proxy cannot tell.
func (s *WatchStream) AskProgress() {
	s.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
}

// Proxied reports whether etcd's grpc-proxy answers. It is known, at the latest, when a response is
// received from Responses. Such a proxy gives a watch to several clients: its responses may come
// without the ids of cluster and member, it reports no progress, and a watch may miss changes without
// an error.
func (s *WatchStream) Proxied() bool { return s.proxied.Load() }

// send queues a request. It does not block: etcd reads requests only while its responses
// are read, and the caller reads those.
func (s *WatchStream) send(req *pb.WatchRequest) {
	s.mu.Lock()
	create := req.GetCreateRequest()
	switch {
	case create != nil:
		if !s.known || s.proxied.Load() {
			s.ids = append(s.ids, create.WatchId)
		}
		s.pending = append(s.pending, req)
	case !s.known:
		s.held = append(s.held, req)
	default:
		s.queue(req)
	}
	s.mu.Unlock()
	s.wake.Notify()
}

// queue queues a request to cancel a watch or for progress as what answers understands it. s.mu is
// held.
func (s *WatchStream) queue(req *pb.WatchRequest) {
	if s.proxied.Load() {
		if req.GetProgressRequest() != nil {
			return // the proxy would ignore it, and log an error
		}
		cancel := req.GetCancelRequest()
		cancel.WatchId = int64(slices.Index(s.ids, cancel.WatchId))
	}
	s.pending = append(s.pending, req)
}

// transmit sends the pending requests until ctx or the stream ends.
func (s *WatchStream) transmit(ctx context.Context) {
	for {
		select {
		case <-s.wake:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		requests := s.pending
		s.pending = nil
		s.mu.Unlock()
		for _, req := range requests {
			if s.stream.Send(req) != nil {
				return // the stream has ended; receive has the reason
			}
		}
	}
}

// receive passes on responses, each assembled from its fragments, until the stream ends.
func (s *WatchStream) receive() {
	defer close(s.responses)
	parts := map[int64][]*mvccpb.Event{} // by watch
	for {
		resp, err := s.stream.Recv()
		if err == nil {
			err = s.identify(resp)
		}
		if err != nil {
			s.err = err
			return
		}
		if resp.Fragment {
			parts[resp.WatchId] = append(parts[resp.WatchId], resp.Events...)
			continue
		}
		if first, ok := parts[resp.WatchId]; ok {
			resp.Events = append(first, resp.Events...)
			delete(parts, resp.WatchId)
		}
		s.responses <- resp
	}
}

// identify learns from the first watch that is made what answers, and gives a response the id that
// its watch was requested with.
func (s *WatchStream) identify(resp *pb.WatchResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case resp.WatchId < 0:
		if resp.Created && resp.Canceled {
			s.refused = resp.CancelReason
		}
	case !s.known:
		s.know(resp.WatchId < idOffset)
	}
	if !s.proxied.Load() {
		if resp.WatchId >= 0 {
			resp.WatchId -= idOffset
		}
		return nil
	}
	if s.refused != "" { // it has no id, so it is not known which one that was
		return fmt.Errorf("etcd's grpc-proxy refuses a watch: %s", s.refused)
	}
	if resp.WatchId < 0 || resp.WatchId >= int64(len(s.ids)) {
		return fmt.Errorf("etcd's grpc-proxy answers for a watch, %d, that was not requested", resp.WatchId)
	}
	resp.WatchId = s.ids[resp.WatchId] - idOffset
	return nil
}

// know records what answers, and queues what was held until then. s.mu is held.
func (s *WatchStream) know(proxied bool) {
	s.known = true
	s.proxied.Store(proxied)
	for _, req := range s.held {
		s.queue(req)
	}
	s.held = nil
	if !proxied {
		s.ids = nil
	}
	s.wake.Notify()
}

// Drain returns a response and those queued behind it, so that a burst is applied as one
// batch.
func (s *WatchStream) Drain(first *pb.WatchResponse) []*pb.WatchResponse {
	batch := []*pb.WatchResponse{first}
	for len(batch) < cap(s.responses) {
		select {
		case resp, ok := <-s.responses:
			if !ok {
				return batch // the caller meets the end next
			}
			batch = append(batch, resp)
		default:
			return batch
		}
	}
	return batch
}

// Err returns why the stream has ended, once Responses is closed.
func (s *WatchStream) Err() error {
	if s.err == nil || errors.Is(s.err, io.EOF) {
		return errors.New("etcd closed the watch")
	}
	return fmt.Errorf("watch: %w", rpctypes.Error(s.err))
}

// Close ends the stream.
func (s *WatchStream) Close() {
	s.cancel()
	for range s.responses { // receive must not hang on a full channel
	}
	s.running.Wait()
}
