// Package etcd is the client of etcd that all packages of disc share.
//
// [Dial] returns a client that does not block at the start, reconnects quickly, notices
// dead connections, and renews its token, password and certificates. [Refused] tells why
// etcd refused a request, and [Explain] tells an operator what to do about an error.
// [Children] lists keys as directories.
package etcd

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Config has the settings of the connection to etcd.
type Config struct {
	Endpoints []string // with or without a scheme
	// TLS returns the TLS settings. It is called at the start and for each handshake, so
	// that renewed certificates are used. nil: TLS with the system's roots if the first
	// endpoint begins with https.
	TLS     func(context.Context) (*tls.Config, error)
	Timeout time.Duration // of one attempt to connect, or to authenticate; default 5 s
	// Credentials returns user and password. It is called each time that a token is needed,
	// so that a rotated password is used. nil: no authentication by password.
	Credentials func(context.Context) (user, password string, err error)
	Logger      *slog.Logger // has why there is no connection, for each endpoint; default: discard
}

// The keepalive of connections. etcd refuses pings more often than every 5 s, and gRPC
// raises an interval below 10 s.
const (
	pingAfter   = 10 * time.Second
	pingTimeout = 3 * time.Second
)

// windowSize is the HTTP/2 flow-control window of a stream and of a connection, in bytes: 50
// MiB a second at a round trip of 20 ms. It is fixed because gRPC otherwise measures the
// round trip by pings while it receives data. etcd would have to answer a ping for each
// event of a watch, three times the work of the event itself.
const windowSize = 1 << 20

// Dial returns a client. It neither waits for etcd nor fails while etcd is unavailable:
// calls do, so each needs a deadline. A failed endpoint is tried again with a backoff of
// 100 ms to 2 s, since clientv3's own grows to two minutes. ctx is for the first call of TLS
// only. The error is that of TLS, or of endpoints that are missing or malformed.
func Dial(ctx context.Context, c Config) (*clientv3.Client, error) {
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = 5 * time.Second
	}
	connections := newConnections(c.Endpoints, timeout, c.Logger)
	options := []grpc.DialOption{
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.5, MaxDelay: 2 * time.Second},
			MinConnectTimeout: timeout,
		}),
		grpc.WithStaticStreamWindowSize(windowSize),
		grpc.WithStaticConnWindowSize(windowSize),
		grpc.WithChainUnaryInterceptor(connections.unary, denyUnary),
		grpc.WithChainStreamInterceptor(connections.stream),
	}
	if connections.proxy == "" {
		options = append(options, grpc.WithContextDialer(connections.dial))
	}
	if c.Credentials != nil {
		t := &tokenAuth{credentials: c.Credentials, endpoints: c.Endpoints, timeout: timeout, fetching: make(chan struct{}, 1)}
		options = append(options,
			grpc.WithPerRPCCredentials(t),
			grpc.WithChainUnaryInterceptor(t.unary),
			grpc.WithChainStreamInterceptor(t.stream))
	}
	transport, err := c.transport(ctx)
	if err != nil {
		return nil, err
	}
	options = append(options, grpc.WithTransportCredentials(recordingCredentials{transport, connections}))
	client, err := clientv3.New(clientv3.Config{
		Context:              connections.clientContext(),
		Endpoints:            c.Endpoints,
		Logger:               zap.NewNop(),
		DialKeepAliveTime:    pingAfter,
		DialKeepAliveTimeout: pingTimeout,
		DialOptions:          options,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", connections.name(), err)
	}
	client.KV, client.Lease = explainedKV{client.KV, connections}, explainedLease{client.Lease, connections}
	return client, nil
}

// transport returns the credentials of the connections, before they are recorded.
func (c Config) transport(ctx context.Context) (credentials.TransportCredentials, error) {
	switch {
	case c.TLS != nil:
		first, err := c.TLS(ctx)
		if err != nil {
			return nil, err
		}
		return reloadingTLS{credentials.NewTLS(first), c.TLS}, nil
	case len(c.Endpoints) > 0 && (strings.HasPrefix(c.Endpoints[0], "https:") || strings.HasPrefix(c.Endpoints[0], "unixs:")):
		return credentials.NewTLS(nil), nil
	}
	return insecure.NewCredentials(), nil
}
