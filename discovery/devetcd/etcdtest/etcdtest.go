// Package etcdtest gives tests a real etcd and clients of it.
package etcdtest

import (
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"disc/discovery/devetcd"
)

// Start runs an etcd until the test ends.
func Start(t testing.TB) *devetcd.Server {
	t.Helper()
	return StartWith(t, devetcd.Options{})
}

// StartWith runs an etcd with options until the test ends, or until it is closed. Unless
// they say otherwise it listens where one that takes its place later surely can, too.
func StartWith(t testing.TB, o devetcd.Options) *devetcd.Server {
	t.Helper()
	if o.Listen == "" {
		o.Listen = Address(t)
	}
	s, err := devetcd.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Client returns a client of etcd at endpoints that is closed when the test ends. It
// reconnects quickly.
func Client(t testing.TB, endpoints ...string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints,
		Logger:    zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.2, MaxDelay: 200 * time.Millisecond},
			MinConnectTimeout: time.Second,
		})},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
