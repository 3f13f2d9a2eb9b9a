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
)

// watchStream carries the watches of a follower, and nobody else's. clientv3's watcher would
// open the stream again by itself, from the revision it had reached: of an etcd that was
// wiped or restored meanwhile it then waits for ever, or misses what changed before.
type watchStream struct {
	pb.Watch_WatchClient
	cancel    context.CancelFunc
	responses chan *pb.WatchResponse
	err       error // why responses was closed

	wake    chan struct{} // of size 1: something waits to be sent
	mu      sync.Mutex
	pending []*pb.WatchRequest
}

// openStream starts a stream without watches.
func (f *Reflector) openStream(ctx context.Context) (*watchStream, error) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	late := time.AfterFunc(WatchTimeout, cancel)
	defer late.Stop()
	s, err := pb.NewWatchClient(f.conn).Watch(ctx, grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(math.MaxInt32))
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open watch: %w", err)
	}
	return &watchStream{Watch_WatchClient: s, cancel: cancel, responses: make(chan *pb.WatchResponse, 64), wake: make(chan struct{}, 1)}, nil
}

// watch starts the watch of a range from a revision, which the mirror has. From the
// next one, etcd 3.5 and newer would not tell of progress until there is a next one.
func (s *watchStream) watch(id int64, r Range, from int64) {
	create := &pb.WatchCreateRequest{WatchId: id, Key: []byte(r.From), StartRevision: from, ProgressNotify: true, Fragment: true}
	if r.To != "" {
		create.RangeEnd = []byte(r.To)
	}
	s.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}})
}

// askProgress asks etcd to say up to where all watches have come.
func (s *watchStream) askProgress() {
	s.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
}

// send has a request sent after those before it. It does not wait: etcd reads requests only
// while its answers are read, which is for the caller to do.
func (s *watchStream) send(r *pb.WatchRequest) {
	s.mu.Lock()
	s.pending = append(s.pending, r)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// transmit sends what waits to be sent, until ctx or the stream ends.
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
		for _, r := range requests {
			if s.Send(r) != nil {
				return // the stream has ended; receive has the reason
			}
		}
	}
}

// receive hands over whole responses, fragments put together, until the stream ends.
func (s *watchStream) receive() {
	defer close(s.responses)
	parts := map[int64][]*mvccpb.Event{} // by watch
	for {
		r, err := s.Recv()
		if err != nil {
			s.err = err
			return
		}
		if r.Fragment {
			parts[r.WatchId] = append(parts[r.WatchId], r.Events...)
			continue
		}
		if first, ok := parts[r.WatchId]; ok {
			r.Events = append(first, r.Events...)
			delete(parts, r.WatchId)
		}
		s.responses <- r
	}
}

// drain returns a response and those that wait behind it, so that a burst is told at
// once and not one by one.
func (s *watchStream) drain(first *pb.WatchResponse) []*pb.WatchResponse {
	batch := []*pb.WatchResponse{first}
	for len(batch) < cap(s.responses) {
		select {
		case r, ok := <-s.responses:
			if !ok {
				return batch // consume meets the end next
			}
			batch = append(batch, r)
		default:
			return batch
		}
	}
	return batch
}

// close ends the stream, and waits for receive to end.
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
