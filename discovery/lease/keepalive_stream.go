package lease

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"disc/discovery/etcd"
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
	proxied       bool               // etcd's grpc-proxy answers the stream
	renewed       time.Duration      // Uptime since which a grpc-proxy is known to have renewed the lease
	reader        sync.WaitGroup     // the goroutine that receives from the stream
}

// response is one message of a stream. A response with an error is the last.
type response struct {
	id       clientv3.LeaseID
	ttl      time.Duration // 0: etcd does not know the lease, negative: a grpc-proxy says so
	sent     time.Duration // Uptime at which the renewal was sent that the ttl counts from
	revision int64         // of the member
	member   uint64        // its id; 0: not told
	err      error
}

// renew sends one renewal and returns the answer. It fails when there is no answer within timeout. For an expired lease etcd does
// not answer until it has removed the lease; that is an error here like any other silence.
func (k *keepalive) renew(ctx context.Context, timeout time.Duration) (response, error) {
	limited, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %v", timeout))
	defer cancel()
	answer, err := k.exchange(limited)
	if err == nil {
		return answer, nil
	}
	k.closeStream()
	if limited.Err() != nil {
		err = context.Cause(limited)
		if why := etcd.Unreachable(k.client, k.endpoint()); why != nil && ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", err, why)
		}
	}
	return response{}, fmt.Errorf("renew lease %s over %s: %w", hex(k.id), k.endpoint(), rpctypes.Error(err))
}

// exchange sends one renewal and receives its answer, over a new stream if there is none.
func (k *keepalive) exchange(ctx context.Context) (response, error) {
	sent := Uptime()
	a, err := k.send(ctx)
	a.sent = sent
	if err == nil && k.proxied {
		a, err = k.timeToLive(ctx)
	}
	if err == nil && a.ttl > 0 && !k.proxied { // a proxy sends each call to another member
		err = k.confirmQuorum(ctx)
	}
	return a, err
}

// send sends one renewal and receives its answer, but not from a grpc-proxy: it renews the lease on
// its own, and answers with what etcd said to an earlier renewal of its own, when it next makes one.
func (k *keepalive) send(ctx context.Context) (response, error) {
	if k.stream == nil {
		return k.sendFirst(ctx)
	}
	if err := k.sendRenewal(k.id); err != nil {
		return response{}, err
	}
	if k.proxied {
		return response{}, nil
	}
	return k.receive(ctx)
}

// sendFirst opens the stream, sends the first renewal, and receives its answer. In front of that it
// sends the renewal of a lease that does not exist, which shows what answers: etcd first answers this
// one, with a TTL of 0. A grpc-proxy says -1, or answers the other one first.
func (k *keepalive) sendFirst(ctx context.Context) (response, error) {
	if err := k.openStream(ctx); err != nil {
		return response{}, err
	}
	nobody := clientv3.LeaseID(rand.Int64())
	for _, id := range []clientv3.LeaseID{nobody, k.id} {
		if err := k.sendRenewal(id); err != nil {
			return response{}, err
		}
	}
	a, err := k.receive(ctx)
	if err != nil {
		return response{}, err
	}
	k.proxied = a.id != nobody || a.ttl < 0
	if k.proxied { // see send; the other answer is dropped when it comes
		return response{}, nil
	}
	return k.receive(ctx)
}

func (k *keepalive) sendRenewal(id clientv3.LeaseID) error {
	if err := k.stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(id)}); err != nil && !errors.Is(err, io.EOF) {
		return err // after io.EOF, the response carries the error
	}
	return nil
}

// receive returns the next response of the stream.
func (k *keepalive) receive(ctx context.Context) (response, error) {
	select {
	case a := <-k.responses:
		return a, a.err
	case <-ctx.Done():
		return response{}, ctx.Err()
	}
}

// timeToLive asks etcd how long it keeps the lease that a grpc-proxy renews, and fails if the proxy
// seems to have ceased to. A proxy renews it three times in a TTL.
func (k *keepalive) timeToLive(ctx context.Context) (response, error) {
	asked := Uptime()
	r, err := pb.NewLeaseClient(k.conn).LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: int64(k.id)})
	if err != nil {
		return response{}, err
	}
	left, granted := time.Duration(r.TTL)*time.Second, time.Duration(r.GrantedTTL)*time.Second
	if granted > 0 && left < granted/4 { // 0: etcd does not know it
		return response{}, fmt.Errorf("etcd's grpc-proxy does not renew it: it expires in %v", left)
	}
	k.renewed = max(k.renewed, renewedBefore(asked, granted, left)) // renewals only prolong it, and etcd tells whole seconds
	return response{id: k.id, ttl: granted, sent: k.renewed, revision: r.GetHeader().GetRevision()}, nil
}

// renewedBefore returns an Uptime at which a lease was renewed at the latest, if etcd, asked at an
// Uptime, keeps it for left. That may be longer than etcd granted: a new leader of etcd prolongs all
// leases, but when it is replaced in its turn, the next one need not. A follower that led before
// may even answer that a lease never expires.
func renewedBefore(asked, granted, left time.Duration) time.Duration {
	return asked - (granted - min(left, granted))
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
	k.stream, k.cancelStream, k.responses, k.proxied = stream, cancel, make(chan response), false
	k.reader.Go(func() { receive(streaming, stream, k.responses) })
	return nil
}

// receive sends what the stream receives to responses, so that the end of the stream is
// noticed between two renewals too. It returns after an error, or when ctx ends.
func receive(ctx context.Context, stream pb.Lease_LeaseKeepAliveClient, responses chan<- response) {
	for {
		r, err := stream.Recv()
		select {
		case responses <- response{id: clientv3.LeaseID(r.GetID()), ttl: time.Duration(r.GetTTL()) * time.Second, revision: r.GetHeader().GetRevision(), member: r.GetHeader().GetMemberId(), err: err}:
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
