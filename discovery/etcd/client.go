// Package etcd makes the one etcd client that a process of disc uses, with the
// settings that the rest relies on: no blocking at start, quick reconnection, dead
// connections noticed, a token that is renewed by itself.
package etcd

import (
	"crypto/tls"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
)

// Config says how etcd is reached.
type Config struct {
	Endpoints []string // with or without a scheme
	// TLS returns how TLS is spoken, at the start and then for each handshake, so that
	// renewed certificates are picked up. nil: the system's roots where an endpoint says
	// https.
	TLS     func() (*tls.Config, error)
	Timeout time.Duration // of an attempt to connect, or to authenticate; default 5 s
	// Credentials returns user and password each time that a token is needed, so that
	// a rotated password is picked up. nil: no authentication by password.
	Credentials func() (user, password string, err error)
}

// Keepalive of connections; etcd refuses pings more often than every 5 s and gRPC
// raises what is below 10 s.
const (
	pingAfter   = 10 * time.Second
	pingTimeout = 3 * time.Second
)

// windowSize is how many bytes etcd may send ahead, on a stream and on a connection: at a
// round trip of 20 ms, 50 MiB a second. It is fixed because gRPC otherwise measures the
// round trip with a ping beside what it receives, and so would etcd have a ping to answer
// for each event of a watch: three times the work that the event is.
const windowSize = 1 << 20

// Dial returns a client. It neither waits for etcd nor fails because etcd is away:
// calls do, so each needs a deadline. A failed endpoint is tried again with a backoff
// of 100 ms to 2 s, since clientv3's own grows to two minutes.
func Dial(c Config) (*clientv3.Client, error) {
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = 5 * time.Second
	}
	options := []grpc.DialOption{
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.5, MaxDelay: 2 * time.Second},
			MinConnectTimeout: timeout,
		}),
		grpc.WithStaticStreamWindowSize(windowSize),
		grpc.WithStaticConnWindowSize(windowSize),
	}
	if c.Credentials != nil {
		t := &tokenAuth{credentials: c.Credentials, endpoints: c.Endpoints, timeout: timeout, fetching: make(chan struct{}, 1)}
		options = append(options,
			grpc.WithPerRPCCredentials(t),
			grpc.WithChainUnaryInterceptor(t.unary),
			grpc.WithChainStreamInterceptor(t.stream))
	}
	var secure *tls.Config
	if c.TLS != nil {
		var err error
		if secure, err = c.TLS(); err != nil {
			return nil, err
		}
		options = append(options, grpc.WithTransportCredentials(reloadingTLS{credentials.NewTLS(secure), c.TLS}))
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            c.Endpoints,
		TLS:                  secure,
		Logger:               zap.NewNop(),
		DialKeepAliveTime:    pingAfter,
		DialKeepAliveTimeout: pingTimeout,
		DialOptions:          options,
	})
	if err != nil {
		return nil, fmt.Errorf("etcd at %s: %w", strings.Join(c.Endpoints, ","), err)
	}
	return client, nil
}
