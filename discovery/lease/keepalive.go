package lease

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// keeper renews one lease over one stream, on a connection of its own to one endpoint
// at a time. clientv3.KeepAlive would use a stream that it shares with others, would
// not say when it sent what, and could not be moved. The client's own connection
// would not say which endpoint it uses, and so which one to try next.
type keeper struct {
	client *clientv3.Client
	id     clientv3.LeaseID

	at      int              // the endpoint's index, modulo their number
	conn    *grpc.ClientConn // nil: none yet
	stream  pb.Lease_LeaseKeepAliveClient
	hangUp  context.CancelFunc // ends the stream
	answers chan answer        // of the stream; nil while there is none
	reader  sync.WaitGroup     // reads the stream
}

// answer is what came over a stream. With an error it is the last.
type answer struct {
	ttl time.Duration // 0: etcd does not know the lease
	err error
}

// renew sends one renewal and waits at most patience for its answer: the lease's TTL,
// or 0 when etcd does not know the lease. etcd does not answer for a lease that has
// run out until it has removed it; that is an error here like any other silence.
func (k *keeper) renew(ctx context.Context, patience time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer within %v", patience))
	defer cancel()
	ttl, err := k.ask(ctx)
	if err == nil {
		return ttl, nil
	}
	k.drop()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return 0, fmt.Errorf("renew lease %s over %s: %w", hex(k.id), k.endpoint(), rpctypes.Error(err))
}

func (k *keeper) ask(ctx context.Context) (time.Duration, error) {
	if k.stream == nil {
		if err := k.open(ctx); err != nil {
			return 0, err
		}
	}
	if err := k.stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(k.id)}); err != nil && !errors.Is(err, io.EOF) {
		return 0, err // io.EOF: the reader learns why the stream ended
	}
	select {
	case a := <-k.answers:
		if a.err == nil && a.ttl > 0 {
			a.err = k.prove(ctx)
		}
		return a.ttl, a.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// prove reads by way of the endpoint what only etcd as a whole can answer, where there is
// another endpoint to go to. Renewals are the leader's alone: before etcd 3.4.26 and 3.5.9
// one that hangs goes on answering them after another has taken its place and let the
// lease run out (etcd-io/etcd#15247).
func (k *keeper) prove(ctx context.Context) error {
	if len(k.client.Endpoints()) == 1 {
		return nil
	}
	_, err := pb.NewKVClient(k.conn).Range(ctx, &pb.RangeRequest{Key: []byte{0}})
	if status.Code(err) == codes.PermissionDenied {
		return nil // an answer of etcd as a whole too
	}
	return err
}

// open opens the stream, which outlives ctx. It does not wait for a connection that
// cannot be had: another endpoint may do.
func (k *keeper) open(ctx context.Context) error {
	if k.conn == nil {
		conn, err := k.client.Dial(k.endpoint())
		if err != nil {
			return err
		}
		k.conn = conn
	}
	streaming, hangUp := context.WithCancel(clientv3.WithRequireLeader(context.WithoutCancel(ctx)))
	stop := context.AfterFunc(ctx, hangUp)
	stream, err := pb.NewLeaseClient(k.conn).LeaseKeepAlive(streaming)
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil {
		hangUp()
		return err
	}
	k.stream, k.hangUp, k.answers = stream, hangUp, make(chan answer)
	k.reader.Go(func() { read(streaming, stream, k.answers) })
	return nil
}

// read passes on what comes over a stream, so that its end is noticed between two
// renewals too. The one who hangs up ends it.
func read(ctx context.Context, stream pb.Lease_LeaseKeepAliveClient, answers chan<- answer) {
	for {
		r, err := stream.Recv()
		select {
		case answers <- answer{ttl: time.Duration(max(r.GetTTL(), 0)) * time.Second, err: err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// move goes to the next endpoint, or to a new connection where there is only one. It
// stays there until that one fails.
func (k *keeper) move() {
	k.close()
	k.at++
}

// endpoint is where the keeper's connection leads.
func (k *keeper) endpoint() string {
	endpoints := k.client.Endpoints()
	return endpoints[k.at%len(endpoints)]
}

// drop ends the stream.
func (k *keeper) drop() {
	if k.stream == nil {
		return
	}
	k.hangUp()
	k.reader.Wait()
	k.stream, k.hangUp, k.answers = nil, nil, nil
}

func (k *keeper) close() {
	k.drop()
	if k.conn != nil {
		k.conn.Close()
		k.conn = nil
	}
}
