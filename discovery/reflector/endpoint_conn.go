package reflector

import (
	"context"
	"fmt"
	"math/rand/v2"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"disc/discovery/etcd"
)

// endpointConn connects a reflector to one member of etcd, over a connection of its own.
// The client's connection spreads calls over all members, and so returns again and again
// to a member that accepts connections but does not answer, because it hangs or is cut
// off from the others.
type endpointConn struct {
	next      int              // number of the next endpoint, modulo their count; 0: not chosen yet
	endpoint  string           // that conn is to
	dedicated *grpc.ClientConn // nil: conn is the client's
	conn      *grpc.ClientConn // carries all calls
	kv        clientv3.KV
}

// connect connects to the next endpoint. The first is random, so that a fleet's watches
// spread over all members. With a single endpoint it uses the client's connection.
func (m *endpointConn) connect(ctx context.Context, client *clientv3.Client) error {
	endpoints := client.Endpoints()
	if len(endpoints) == 1 {
		m.endpoint, m.conn, m.kv = endpoints[0], client.ActiveConnection(), client
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
	m.endpoint, m.dedicated, m.conn, m.kv = endpoint, own, own, etcd.NewKV(own, client)
	return awaitReady(ctx, client, own, endpoint)
}

// awaitReady waits until a connection is ready. It returns an error as soon as connecting
// fails, and after identityTimeout.
func awaitReady(ctx context.Context, client *clientv3.Client, conn *grpc.ClientConn, endpoint string) error {
	ctx, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if state == connectivity.TransientFailure || !conn.WaitForStateChange(ctx, state) {
			return etcd.NoConnection(client, endpoint)
		}
	}
	return nil
}

// disconnect closes the connection, unless it is the client's.
func (m *endpointConn) disconnect() {
	if m.dedicated != nil {
		m.dedicated.Close()
		m.dedicated = nil
	}
}
