// Package devetcd runs an etcd inside the process: for 'disc dev', which needs no
// set-up, and for tests, which need a real etcd.
package devetcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"google.golang.org/grpc"

	"disc/discovery/devetcd/lazymetrics"
)

// Options configure the embedded etcd. The zero value is an etcd on a free port of the
// loopback interface, with temporary data.
type Options struct {
	// Listen is the client address, host:port. Port 0 is a free port.
	// Default: 127.0.0.1:0.
	Listen string
	// TLS names the files of the server's certificate and the authority of its clients'
	// certificates. Default: clients connect without TLS.
	TLS transport.TLSInfo
	// Dir keeps the data, and etcd syncs every write to disk. Default: a temporary
	// directory, not synced, which Close removes.
	Dir string
	// Retention is how long etcd keeps history before it compacts it. Default: an hour.
	Retention time.Duration
	// Configure, if set, changes etcd's settings before it starts.
	Configure func(*embed.Config)
}

// Server is a running etcd.
type Server struct {
	// Etcd is the embedded server, for tests that inject faults.
	Etcd *etcdserver.EtcdServer

	embedded  *embed.Etcd       // nil until it has started
	ready     chan *grpc.Server // receives the server of clients once etcd is ready
	grpc      *grpc.Server      // nil until etcd is ready
	failed    chan error
	watching  sync.WaitGroup
	temporary string // the directory to remove; "" for none
	closing   sync.Once
	closed    error // the result of the first Close
}

// Start starts an etcd and returns when it is ready to serve. The error for an address
// that is in use names the address and says what to do.
func Start(ctx context.Context, o Options) (*Server, error) {
	o.Listen = cmp.Or(o.Listen, "127.0.0.1:0")
	s := &Server{ready: make(chan *grpc.Server, 1), failed: make(chan error, 1)}
	if err := s.start(ctx, o); err != nil {
		return nil, errors.Join(fmt.Errorf("start etcd: %w", err), s.Close())
	}
	return s, nil
}

// start starts etcd and waits until it is ready.
func (s *Server) start(ctx context.Context, o Options) error {
	if err := lazymetrics.Register(); err != nil {
		return fmt.Errorf("register etcd's metrics: %w", err)
	}
	dir := o.Dir
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "disc-etcd-"); err != nil {
			return err
		}
		s.temporary = dir
	}
	if err := s.listen(o, filepath.Join(dir, "etcd")); err != nil {
		return err
	}
	s.Etcd = s.embedded.Server
	select {
	case s.grpc = <-s.ready:
	case err := <-s.embedded.Err():
		return cmp.Or(err, errStopped)
	case <-s.Etcd.StopNotify():
		return errStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	s.watching.Go(s.watch)
	return nil
}

// errStopped reports that etcd stopped by itself, which it does when it cannot go on.
var errStopped = errors.New("it has stopped")

// watch waits until etcd stops or fails. It then disconnects the clients, which would
// wait for answers, and reports the failure.
func (s *Server) watch() {
	var err error
	select {
	case err = <-s.embedded.Err():
	case <-s.Etcd.StopNotify():
	}
	s.disconnect()
	s.failed <- cmp.Or(err, errStopped)
}

// disconnect ends the calls of clients and refuses new ones. Over TLS an HTTP server hands
// the calls to gRPC, whose Stop ends those that there are and waits until none is left. It
// would serve a call that came in meanwhile, and wait for it: without a limit for a watch,
// which a client begins again as soon as it has ended. So disconnect stops gRPC again until
// no call is left.
func (s *Server) disconnect() {
	stopped := make(chan struct{})
	stop := sync.OnceFunc(func() { close(stopped) })
	var stops sync.WaitGroup
	defer stops.Wait()
	for {
		stops.Go(func() {
			s.grpc.Stop()
			stop()
		})
		select {
		case <-stopped:
			return
		case <-time.After(stopAgainAfter):
		}
	}
}

// stopAgainAfter is how long calls may take to end before those that are new are ended too.
const stopAgainAfter = 10 * time.Millisecond

// Endpoint returns the client address, host:port.
func (s *Server) Endpoint() string { return s.embedded.Clients[0].Addr().String() }

// Err returns a channel that receives the first failure of the running server.
func (s *Server) Err() <-chan error { return s.failed }

// Close stops the server and removes temporary data. It does not wait for clients: it
// ends their calls and connections. Further calls return the result of the first.
func (s *Server) Close() error {
	s.closing.Do(func() {
		s.stop()
		s.closed = s.cleanUp()
	})
	return s.closed
}

// closeTimeout bounds the wait for connections that have not sent a request yet.
const closeTimeout = 2 * time.Second

// stop stops etcd. It ends the calls of gRPC itself, since the Close of package embed may
// wait five seconds for them, and a watch never ends. That Close also waits, without a
// limit, for connections that have not shown whether they speak HTTP/1 or HTTP/2. When
// stop gives up after closeTimeout, etcd has stopped and only such connections are left.
func (s *Server) stop() {
	if s.embedded == nil {
		return
	}
	if s.grpc != nil {
		s.disconnect()
	}
	s.embedded.Server.Stop()
	s.watching.Wait()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		s.embedded.Close()
	}()
	select {
	case <-closed:
	case <-time.After(closeTimeout):
	}
}

func (s *Server) cleanUp() error {
	if s.temporary == "" {
		return nil
	}
	return os.RemoveAll(s.temporary)
}
