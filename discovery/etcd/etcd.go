// Package etcd makes the one etcd client that a process of disc uses, with the
// settings that the rest relies on: no blocking at start, quick reconnection, dead
// connections noticed, a token that is renewed by itself.
package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"disc/discovery"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Config says how etcd is reached.
type Config struct {
	Endpoints []string      // with or without a scheme
	TLS       *tls.Config   // nil: the system's roots where an endpoint says https
	Timeout   time.Duration // of a connection attempt; default 5 s
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
	}
	if c.Credentials != nil {
		t := &tokens{credentials: c.Credentials, endpoints: c.Endpoints}
		options = append(options,
			grpc.WithPerRPCCredentials(t),
			grpc.WithChainUnaryInterceptor(t.unary),
			grpc.WithChainStreamInterceptor(t.stream))
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            c.Endpoints,
		TLS:                  c.TLS,
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

// Explain turns an error of a call to etcd into one that an operator can act on: it
// names the endpoints and the next thing to try, and is an
// [discovery.ErrUnavailable], [discovery.ErrForbidden] or what it was.
func Explain(endpoints []string, err error) error {
	at := "etcd at " + strings.Join(endpoints, ",")
	switch {
	case err == nil:
		return nil
	case errors.Is(err, rpctypes.ErrAuthFailed):
		return discovery.Errorf(discovery.ErrForbidden, "%s: authentication failed: invalid user name or password", at)
	case errors.Is(err, rpctypes.ErrUserEmpty):
		return discovery.Errorf(discovery.ErrForbidden, "%s wants a user; give --user and --password-file, or a client certificate", at)
	case errors.Is(err, rpctypes.ErrPermissionDenied):
		return discovery.Errorf(discovery.ErrForbidden, "%s: permission denied; grant the user's role the keys under %s", at, discovery.Namespaces())
	case errors.Is(err, rpctypes.ErrNoSpace):
		return discovery.Errorf(discovery.ErrUnavailable, "%s is out of space: compact, defragment and disarm its NOSPACE alarm (etcdctl alarm list)", at)
	case errors.Is(err, context.DeadlineExceeded), status.Code(err) == codes.DeadlineExceeded:
		return discovery.Errorf(discovery.ErrUnavailable, "%s did not answer in time; is it running, and is --endpoints right?", at)
	case status.Code(err) == codes.Unavailable:
		return discovery.Errorf(discovery.ErrUnavailable, "%s cannot be reached: %s; is it running, and is --endpoints right?", at, status.Convert(err).Message())
	}
	return err
}
