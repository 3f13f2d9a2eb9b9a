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

// keepalive renews one lease over one stream, on its own connection to one endpoint at a
// time. clientv3.KeepAlive is not enough: it shares a stream, does not report when it sent a
// renewal, and cannot be moved to another endpoint. Nor is the client's own
// connection: it does not report which endpoint it uses, and so which one to try next.
type keepalive struct {
	client *clientv3.Client
	id     clientv3.LeaseID

	endpointIndex int              // modulo the number of endpoints
	conn          *grpc.ClientConn // nil: none yet
	stream        pb.Lease_LeaseKeepAliveClient
	cancelStream  context.CancelFunc // ends the stream
	responses     chan response      // from the stream; nil while there is no stream
	reader        sync.WaitGroup     // the goroutine that receives from the stream
}

// response is one message of a stream. A response with an error is the last.
type response struct {
	ttl      time.Duration // 0: etcd does not know the lease
	revision int64         // of the member
	err      error
}

// renew sends one renewal and returns the answer. It fails when there is no answer within timeout. For an expired lease etcd does
// not answer until it has removed the lease; that is an error here like any other silence.
func (k *keepalive) renew(ctx context.Context, timeout time.Duration) (response, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %v", timeout))
	defer cancel()
	answer, err := k.exchange(ctx)
	if err == nil {
		return answer, nil
	}
	k.closeStream()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return response{}, fmt.Errorf("renew lease %s over %s: %w", hex(k.id), k.endpoint(), rpctypes.Error(err))
}

// exchange sends one renewal and receives its answer, over a new stream if there is none.
func (k *keepalive) exchange(ctx context.Context) (response, error) {
	if k.stream == nil {
		if err := k.openStream(ctx); err != nil {
			return response{}, err
		}
	}
	if err := k.stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(k.id)}); err != nil && !errors.Is(err, io.EOF) {
		return response{}, err // after io.EOF, the response carries the error
	}
	select {
	case a := <-k.responses:
		if a.err == nil && a.ttl > 0 {
			a.err = k.confirmQuorum(ctx)
		}
		return a, a.err
	case <-ctx.Done():
		return response{}, ctx.Err()
	}
}

// confirmQuorum makes a linearizable read over the endpoint, if there is another endpoint to
// go to. The leader answers renewals by itself: before etcd 3.4.26 and 3.5.9 a leader that
// hangs goes on answering them after another leader has replaced it and let the lease
// expire (etcd-io/etcd#15247).
func (k *keepalive) confirmQuorum(ctx context.Context) error {
	if len(k.client.Endpoints()) == 1 {
		return nil
	}
	_, err := pb.NewKVClient(k.conn).Range(ctx, &pb.RangeRequest{Key: []byte{0}})
	if status.Code(err) == codes.PermissionDenied {
		return nil // a denial, too, is an answer of the quorum
	}
	return err
}

// openStream opens the stream, which outlives ctx. It fails at once where no connection
// can be made: another endpoint may answer.
func (k *keepalive) openStream(ctx context.Context) error {
	if k.conn == nil {
		conn, err := k.client.Dial(k.endpoint())
		if err != nil {
			return err
		}
		k.conn = conn
	}
	streaming, cancel := context.WithCancel(clientv3.WithRequireLeader(context.WithoutCancel(ctx)))
	stop := context.AfterFunc(ctx, cancel)
	stream, err := pb.NewLeaseClient(k.conn).LeaseKeepAlive(streaming)
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		return err
	}
	k.stream, k.cancelStream, k.responses = stream, cancel, make(chan response)
	k.reader.Go(func() { receive(streaming, stream, k.responses) })
	return nil
}

// receive sends what the stream receives to responses, so that the end of the stream is
// noticed between two renewals too. It returns after an error, or when ctx ends.
func receive(ctx context.Context, stream pb.Lease_LeaseKeepAliveClient, responses chan<- response) {
	for {
		r, err := stream.Recv()
		select {
		case responses <- response{ttl: time.Duration(max(r.GetTTL(), 0)) * time.Second, revision: r.GetHeader().GetRevision(), err: err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// nextEndpoint closes the connection and moves to the next endpoint, which the next renewal
// connects to. With a single endpoint this only renews the connection.
func (k *keepalive) nextEndpoint() {
	k.close()
	k.endpointIndex++
}

// endpoint returns the endpoint that the connection is to, or will be to.
func (k *keepalive) endpoint() string {
	endpoints := k.client.Endpoints()
	return endpoints[k.endpointIndex%len(endpoints)]
}

// closeStream ends the stream and waits for its goroutine.
func (k *keepalive) closeStream() {
	if k.stream == nil {
		return
	}
	k.cancelStream()
	k.reader.Wait()
	k.stream, k.cancelStream, k.responses = nil, nil, nil
}

// close ends the stream and the connection.
func (k *keepalive) close() {
	k.closeStream()
	if k.conn != nil {
		k.conn.Close()
		k.conn = nil
	}
}
