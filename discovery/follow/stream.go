package follow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	mvccpb "go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// stream carries the watches of a follower, and nobody else's. clientv3's watcher would
// open the stream again by itself, from the revision it had reached: of an etcd that was
// wiped or restored meanwhile it then waits for ever, or misses what changed before.
type stream struct {
	pb.Watch_WatchClient
	cancel    context.CancelFunc
	responses chan *pb.WatchResponse
	err       error // why responses was closed
}

// open starts a stream without watches.
func (f *Follower) open(ctx context.Context) (*stream, error) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	late := time.AfterFunc(Silence, cancel)
	defer late.Stop()
	s, err := pb.NewWatchClient(f.conn).Watch(ctx, grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(math.MaxInt32))
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open watch: %w", err)
	}
	return &stream{Watch_WatchClient: s, cancel: cancel, responses: make(chan *pb.WatchResponse, 64)}, nil
}

// watch starts the watch of a range from a revision, which the mirror has. From the
// next one, etcd 3.5 and newer would not tell of progress until there is a next one.
func (s *stream) watch(id int64, r Range, from int64) error {
	create := &pb.WatchCreateRequest{WatchId: id, Key: []byte(r.From), StartRevision: from, ProgressNotify: true, Fragment: true}
	if r.To != "" {
		create.RangeEnd = []byte(r.To)
	}
	return s.send("open watch", &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}})
}

// askProgress asks etcd to say up to where all watches have come.
func (s *stream) askProgress() error {
	return s.send("ask for progress", &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
}

func (s *stream) send(what string, r *pb.WatchRequest) error {
	if err := s.Send(r); err != nil && !errors.Is(err, io.EOF) { // after an EOF, receive has the reason
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// receive hands over whole responses, fragments put together, until the stream ends.
func (s *stream) receive() {
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
func (s *stream) drain(first *pb.WatchResponse) []*pb.WatchResponse {
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
func (s *stream) close() {
	s.cancel()
	for range s.responses { // receive must not hang on a full channel
	}
}

func watchEnded(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return errors.New("etcd closed the watch")
	}
	return fmt.Errorf("watch: %w", rpctypes.Error(err))
}
