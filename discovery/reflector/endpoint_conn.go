package reflector

import (
	"context"
	"fmt"
	"math/rand/v2"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

// endpointConn is the one of etcd's members that a follower talks to, over a connection of its
// own. The client's would spread the calls over all members, and so lead again and again
// to one that takes connections but answers nothing: it hangs, or is cut off from the
// others.
type endpointConn struct {
	next      int              // the endpoint's number, modulo how many there are; 0: not chosen yet
	dedicated *grpc.ClientConn // nil: there is none
	conn      *grpc.ClientConn // what calls go over
	kv        clientv3.KV
}

// connect leads to the next member; at first to any, so that a fleet's watches are spread
// over all. Where there is one endpoint only, the client's connection does.
func (m *endpointConn) connect(ctx context.Context, client *clientv3.Client) error {
	endpoints := client.Endpoints()
	if len(endpoints) == 1 {
		m.conn, m.kv = client.ActiveConnection(), client
		return nil
	}
	if m.next == 0 {
		m.next = 1 + rand.IntN(len(endpoints))
	}
	endpoint := endpoints[m.next%len(endpoints)]
	m.next++
	own, err := client.Dial(endpoint)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", endpoint, err)
	}
	m.dedicated, m.conn, m.kv = own, own, clientv3.NewKVFromKVClient(pb.NewKVClient(own), client)
	return awaitReady(ctx, own, endpoint)
}

// awaitReady waits for a connection, but not for one that cannot be had.
func awaitReady(ctx context.Context, conn *grpc.ClientConn, endpoint string) error {
	ctx, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if state == connectivity.TransientFailure || !conn.WaitForStateChange(ctx, state) {
			return fmt.Errorf("%s cannot be reached", endpoint)
		}
	}
	return nil
}

// disconnect ends the connection, if it is not the client's.
func (m *endpointConn) disconnect() {
	if m.dedicated != nil {
		m.dedicated.Close()
		m.dedicated = nil
	}
}
