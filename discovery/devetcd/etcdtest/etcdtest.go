// Package etcdtest gives tests a real etcd, clients of it, and faults between them.
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

// StartWith runs an etcd with options until the test ends or closes it. By default it
// listens on an address that another etcd can take over later, see Address.
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

// Client returns a client of etcd that reconnects quickly. It is closed when the test
// ends.
func Client(t testing.TB, endpoints ...string) *clientv3.Client {
	t.Helper()
	return connect(t, clientv3.Config{Endpoints: endpoints})
}

func connect(t testing.TB, config clientv3.Config) *clientv3.Client {
	t.Helper()
	config.Logger = zap.NewNop()
	config.DialOptions = []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.2, MaxDelay: 200 * time.Millisecond},
		MinConnectTimeout: time.Second,
	})}
	c, err := clientv3.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
