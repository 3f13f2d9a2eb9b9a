package catalog

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

// Timing of a watch.
const (
	quiet      = 2 * time.Second // without an answer: ask for progress
	quietLarge = 5 * time.Second // the same in a fleet of more than 1,000 nodes
	silence    = 5 * time.Second // without an answer to that: give the watch up
	largeFleet = 1000            // nodes
)

// stream is one watch on one stream of its own. clientv3's watcher would open the
// stream again by itself, from the revision it had reached: of an etcd that was wiped
// or restored meanwhile it then waits for ever, or misses what changed before.
type stream struct {
	pb.Watch_WatchClient
	cancel    context.CancelFunc
	responses chan *pb.WatchResponse
	err       error // why responses was closed
}

// watch follows the changes after the view until the stream ends, with the reason.
func (c *Catalog) watch(ctx context.Context, steady func()) error {
	s, err := c.open(ctx, c.snapshot().Revision())
	if err != nil {
		return fmt.Errorf("open watch: %w", err)
	}
	received := make(chan struct{})
	go func() {
		defer close(received)
		s.receive()
	}()
	defer func() {
		s.cancel()
		for range s.responses { // receive must not hang on a full channel
		}
		<-received
	}()
	return c.consume(ctx, s, steady)
}

// open starts a watch of the catalog's range from a revision, which the view has. From
// the next one, etcd 3.5 and newer would not tell of progress until there is a next one.
func (c *Catalog) open(ctx context.Context, from int64) (*stream, error) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	late := time.AfterFunc(silence, cancel)
	defer late.Stop()
	s, err := pb.NewWatchClient(c.client.ActiveConnection()).Watch(ctx, grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(math.MaxInt32))
	if err == nil {
		first, end := c.keys.CatalogRange()
		err = s.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
			Key: []byte(first), RangeEnd: []byte(end), StartRevision: from, ProgressNotify: true, Fragment: true,
		}}})
	}
	if err != nil {
		cancel()
		return nil, err
	}
	return &stream{Watch_WatchClient: s, cancel: cancel, responses: make(chan *pb.WatchResponse, 64)}, nil
}

// receive hands over whole responses, fragments put together, until the stream ends.
func (s *stream) receive() {
	defer close(s.responses)
	var parts []*mvccpb.Event
	for {
		r, err := s.Recv()
		if err != nil {
			s.err = err
			return
		}
		parts = append(parts, r.Events...)
		if r.Fragment {
			continue
		}
		r.Events, parts = parts, nil
		s.responses <- r
	}
}

// consume applies what the stream brings until it ends, or falls silent.
func (c *Catalog) consume(ctx context.Context, s *stream, steady func()) error {
	asked := time.Now() // a moment before etcd made the next answer
	wait, waiting := time.NewTimer(silence), true
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r, ok := <-s.responses:
			if !ok {
				return watchEnded(s.err)
			}
			if err := c.take(s.drain(r), asked); err != nil {
				return err
			}
			if !r.Created {
				steady()
			}
			wait.Reset(c.quiet())
			asked, waiting = time.Now(), false
		case <-c.suspects.due():
			c.judge()
		case i := <-c.suspects.failed():
			c.condemn(i)
		case <-wait.C:
			if waiting {
				return fmt.Errorf("etcd has not answered the watch for %v", silence)
			}
			asked, waiting = time.Now(), true
			if err := s.askProgress(); err != nil {
				return err
			}
			wait.Reset(silence)
		}
	}
}

// drain returns a response and those that wait behind it, so that a burst makes one
// new view and not thousands.
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

// askProgress asks etcd to say up to where the watch has come.
func (s *stream) askProgress() error {
	err := s.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
	if err != nil && !errors.Is(err, io.EOF) { // after an EOF, receive has the reason
		return fmt.Errorf("ask for progress: %w", err)
	}
	return nil
}

func watchEnded(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return errors.New("etcd closed the watch")
	}
	return fmt.Errorf("watch: %w", rpctypes.Error(err))
}
