// Package devetcd runs an etcd inside the process: for 'disc dev', where disc is to
// run without set-up, and for tests, which need a real etcd.
package devetcd

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/etcd/server/v3/config"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"google.golang.org/grpc"

	_ "disc/discovery/devetcd/nometrics"
)

// Options say how the embedded etcd runs. The zero value is an etcd on a free port
// of the loopback interface whose data goes with it.
type Options struct {
	// Listen is the client address, host:port. Default: 127.0.0.1 and a free port.
	Listen string
	// TLS is spoken with clients. Default: none is.
	TLS *tls.Config
	// Dir keeps the data, and every write is synced to disk. Default: a temporary
	// directory, not synced, removed by Close.
	Dir string
	// Retention is how much history is kept before compaction. Default: an hour.
	Retention time.Duration
	// Configure, if set, changes the server's settings before it starts.
	Configure func(*config.ServerConfig)
}

// Server is a running etcd.
type Server struct {
	// Etcd is the embedded server, for those who inject faults.
	Etcd *etcdserver.EtcdServer

	listener  net.Listener
	grpc      *grpc.Server // nil until etcd is ready
	failed    chan error
	serving   sync.WaitGroup
	temporary string // directory to remove; empty: none
	closing   sync.Once
	closed    error // of the first Close
}

// Start starts an etcd and returns when it is ready to serve.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, explain(err, o.Listen)
	}
	s := &Server{listener: listener, failed: make(chan error, 1)}
	dir := o.Dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "disc-etcd-"); err != nil {
			return nil, errors.Join(fmt.Errorf("start etcd: %w", err), listener.Close())
		}
		s.temporary = dir
	}
	if err := s.start(ctx, o, filepath.Join(dir, "etcd")); err != nil {
		return nil, errors.Join(fmt.Errorf("start etcd: %w", err), s.Close())
	}
	return s, nil
}

// start starts etcd and serves clients as soon as it is ready.
func (s *Server) start(ctx context.Context, o Options, dir string) error {
	etcd, err := etcdserver.NewServer(o.settings(s.listener.Addr(), dir))
	if err != nil {
		return err
	}
	s.Etcd = etcd
	etcd.Start()
	select {
	case <-etcd.ReadyNotify():
	case <-etcd.StopNotify():
		return errStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	s.grpc = newServer(etcd, o.TLS)
	s.serving.Go(s.serve)
	return nil
}

// errStopped: etcd stops by itself when it cannot go on.
var errStopped = errors.New("it has stopped")

// serve serves clients until the server is closed.
func (s *Server) serve() {
	s.serving.Go(func() {
		<-s.Etcd.StopNotify()
		s.grpc.Stop()
	})
	s.failed <- cmp.Or(s.grpc.Serve(s.listener), errStopped)
}

// Endpoint is the client address, host:port.
func (s *Server) Endpoint() string { return s.listener.Addr().String() }

// Err reports the first failure of the running server.
func (s *Server) Err() <-chan error { return s.failed }

// Close stops the server and removes its data if that is temporary. It may be called
// again.
func (s *Server) Close() error {
	s.closing.Do(func() {
		if s.grpc != nil {
			s.grpc.Stop()
		}
		if s.Etcd != nil {
			s.Etcd.Stop()
		}
		s.serving.Wait()
		s.listener.Close() // unless it was served
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

// explain says what to do about an address that cannot be listened on.
func explain(err error, listen string) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "listen" {
		return fmt.Errorf("start etcd: listen on %s: %w; stop what listens there, or choose another address", listen, op.Err)
	}
	return fmt.Errorf("start etcd: %w", err)
}
