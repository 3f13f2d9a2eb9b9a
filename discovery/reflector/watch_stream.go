package reflector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"disc/discovery/retry"
)

// watchStream carries the watches of one reflector. clientv3's watcher would reopen the
// stream by itself, from the revision that it had reached: on an etcd that was wiped or
// restored meanwhile it then waits for ever, or misses earlier changes.
type watchStream struct {
	pb.Watch_WatchClient
	cancel    context.CancelFunc
	responses chan *pb.WatchResponse
	err       error // why responses was closed

	wake    retry.Signal // there are pending requests
	mu      sync.Mutex
	pending []*pb.WatchRequest
}

// openStream opens a stream without watches.
func (r *Reflector) openStream(ctx context.Context) (*watchStream, error) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	timer := time.AfterFunc(WatchTimeout, cancel)
	defer timer.Stop()
	s, err := pb.NewWatchClient(r.conn).Watch(ctx, grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(math.MaxInt32))
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open watch: %w", err)
	}
	return &watchStream{Watch_WatchClient: s, cancel: cancel, responses: make(chan *pb.WatchResponse, 64), wake: retry.NewSignal()}, nil
}

// watch starts the watch of a range from a revision that the store has already. Started
// from the next one, etcd 3.5 and newer would not report progress before that exists.
func (s *watchStream) watch(id int64, rng Range, from int64) {
	create := &pb.WatchCreateRequest{WatchId: id, Key: []byte(rng.From), StartRevision: from, ProgressNotify: true, Fragment: true}
	if rng.To != "" {
		create.RangeEnd = []byte(rng.To)
	}
	s.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}})
}

// askProgress asks etcd for the revision that all watches have reached.
func (s *watchStream) askProgress() {
	s.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
}

// send queues a request. It does not block: etcd reads requests only while its responses
// are read, and the caller reads those.
func (s *watchStream) send(req *pb.WatchRequest) {
	s.mu.Lock()
	s.pending = append(s.pending, req)
	s.mu.Unlock()
	s.wake.Notify()
}

// transmit sends the pending requests until ctx or the stream ends.
func (s *watchStream) transmit(ctx context.Context) {
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
			if s.Send(req) != nil {
				return // the stream has ended; receive has the reason
			}
		}
	}
}

// receive passes on responses, each assembled from its fragments, until the stream ends.
func (s *watchStream) receive() {
	defer close(s.responses)
	parts := map[int64][]*mvccpb.Event{} // by watch
	for {
		resp, err := s.Recv()
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

// drain returns a response and those queued behind it, so that a burst is applied as one
// batch.
func (s *watchStream) drain(first *pb.WatchResponse) []*pb.WatchResponse {
	batch := []*pb.WatchResponse{first}
	for len(batch) < cap(s.responses) {
		select {
		case resp, ok := <-s.responses:
			if !ok {
				return batch // consume meets the end next
			}
			batch = append(batch, resp)
		default:
			return batch
		}
	}
	return batch
}

// close ends the stream and waits until receive returns.
func (s *watchStream) close() {
	s.cancel()
	for range s.responses { // receive must not hang on a full channel
	}
}

func streamError(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return errors.New("etcd closed the watch")
	}
	return fmt.Errorf("watch: %w", rpctypes.Error(err))
}
