package lease

import (
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// keeper renews one lease over one stream. clientv3.KeepAlive would do so over a
// stream that it shares with others, would not say when it sent what, and could not be
// moved to another connection.
type keeper struct {
	client *clientv3.Client
	id     clientv3.LeaseID

	moves  int              // how often the connection was changed
	own    *grpc.ClientConn // nil: the client's own connection
	stream pb.Lease_LeaseKeepAliveClient
	cancel context.CancelFunc
}

// renew sends one renewal and waits at most patience for its answer: the lease's TTL,
// or 0 when etcd does not know the lease.
func (k *keeper) renew(ctx context.Context, patience time.Duration) (time.Duration, error) {
	if k.stream == nil {
		if err := k.open(ctx, patience); err != nil {
			return 0, fmt.Errorf("renew lease over %s: %w", k.endpoint(), err)
		}
	}
	expired := time.AfterFunc(patience, k.cancel)
	defer expired.Stop()
	stop := context.AfterFunc(ctx, k.cancel)
	defer stop()
	err := k.stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(k.id)})
	for err == nil {
		var r *pb.LeaseKeepAliveResponse
		if r, err = k.stream.Recv(); err == nil && r.ID == int64(k.id) {
			return time.Duration(max(r.TTL, 0)) * time.Second, nil
		}
	}
	k.hangUp()
	return 0, fmt.Errorf("renew lease over %s: %w", k.endpoint(), err)
}

// open opens the stream. The stream outlives the call, so its context is its own, and
// the patience of opening it is enforced from outside.
func (k *keeper) open(ctx context.Context, patience time.Duration) error {
	conn := k.own
	if conn == nil {
		conn = k.client.ActiveConnection()
	}
	streaming, cancel := context.WithCancel(clientv3.WithRequireLeader(context.WithoutCancel(ctx)))
	expired := time.AfterFunc(patience, cancel)
	defer expired.Stop()
	stop := context.AfterFunc(ctx, cancel)
	defer stop()
	stream, err := pb.NewLeaseClient(conn).LeaseKeepAlive(streaming, grpc.WaitForReady(true))
	if err != nil {
		cancel()
		return err
	}
	k.stream, k.cancel = stream, cancel
	return nil
}

// move changes to a new connection, to the next endpoint where there are several.
func (k *keeper) move() {
	k.close()
	k.moves++
	if conn, err := k.client.Dial(k.endpoint()); err == nil {
		k.own = conn
	}
}

// endpoint is where the keeper's connection leads.
func (k *keeper) endpoint() string {
	endpoints := k.client.Endpoints()
	return endpoints[k.moves%len(endpoints)]
}

func (k *keeper) hangUp() {
	if k.cancel != nil {
		k.cancel()
	}
	k.stream, k.cancel = nil, nil
}

func (k *keeper) close() {
	k.hangUp()
	if k.own != nil {
		k.own.Close()
		k.own = nil
	}
}
