// Package devetcd runs an etcd inside the process: for 'disc dev', where disc is to
// run without set-up, and for tests, which need a real etcd.
package devetcd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	_ "disc/discovery/devetcd/nometrics"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// Options say how the embedded etcd runs. The zero value is an etcd on a free port
// of the loopback interface whose data goes with it.
type Options struct {
	// Listen is the client address, host:port. Default: 127.0.0.1 and a free port.
	Listen string
	// Dir keeps the data, and every write is synced to disk. Default: a temporary
	// directory, not synced, removed by Close.
	Dir string
	// Retention is how much history is kept before compaction. Default: an hour.
	Retention time.Duration
	// Configure, if set, changes the server's settings before it starts.
	Configure func(*embed.Config)
}

// Server is a running etcd.
type Server struct {
	// Etcd is the embedded server, for those who inject faults.
	Etcd *embed.Etcd

	endpoint  string
	temporary string // directory to remove; empty: none
	closing   sync.Once
	closed    error // of the first Close
}

// Start starts an etcd and returns when it is ready to serve.
func Start(ctx context.Context, o Options) (*Server, error) {
	s := &Server{}
	dir := o.Dir
	if dir == "" {
		temporary, err := os.MkdirTemp("", "disc-etcd-")
		if err != nil {
			return nil, fmt.Errorf("start etcd: %w", err)
		}
		dir, s.temporary = temporary, temporary
	}
	etcd, err := embed.StartEtcd(o.config(dir))
	if err != nil {
		return nil, errors.Join(explain(err, o.Listen), s.cleanUp())
	}
	s.Etcd = etcd
	select {
	case <-etcd.Server.ReadyNotify():
	case err := <-etcd.Err():
		return nil, errors.Join(fmt.Errorf("start etcd: %w", err), s.Close())
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("start etcd: %w", context.Cause(ctx)), s.Close())
	}
	s.endpoint = etcd.Clients[0].Addr().String()
	return s, nil
}

// Endpoint is the client address, host:port.
func (s *Server) Endpoint() string { return s.endpoint }

// Err reports the first failure of the running server.
func (s *Server) Err() <-chan error { return s.Etcd.Err() }

// Close stops the server and removes its data if that is temporary. It may be called
// again.
func (s *Server) Close() error {
	s.closing.Do(func() {
		s.Etcd.Close()
		s.closed = s.cleanUp()
	})
	return s.closed
}

func (s *Server) cleanUp() error {
	if s.temporary == "" {
		return nil
	}
	return os.RemoveAll(s.temporary)
}

func (o Options) config(dir string) *embed.Config {
	c := embed.NewConfig()
	c.Name = "disc"
	c.Dir = filepath.Join(dir, "etcd")
	c.TickMs, c.ElectionMs = 10, 100
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	c.EnableGRPCGateway = false
	c.UnsafeNoFsync = o.Dir == ""
	c.AutoCompactionMode = embed.CompactorModePeriodic
	c.AutoCompactionRetention = "1h"
	if o.Retention > 0 {
		c.AutoCompactionRetention = o.Retention.String()
	}
	listen := o.Listen
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	client, peer := url.URL{Scheme: "http", Host: listen}, url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	if o.Configure != nil {
		o.Configure(c)
	}
	return c
}

// explain says what to do about an address that cannot be listened on.
func explain(err error, listen string) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "listen" {
		return fmt.Errorf("start etcd: listen on %s: %w; stop what listens there, or choose another address", listen, op.Err)
	}
	return fmt.Errorf("start etcd: %w", err)
}
