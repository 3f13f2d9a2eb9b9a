package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// The limits of a server.
const (
	MaxConnections = 1024             // of TCP at once
	maxWaiting     = 256              // queries over UDP that wait for etcd
	idleTime       = 10 * time.Second // of a connection between two queries, RFC 7766
	messageTime    = 5 * time.Second  // for a query to come in once begun, and for an answer to go out

	receiveBuffer = 1 << 20         // bytes of queries that may wait; the kernel may give less
	failurePause  = 1 * time.Second // after which a socket that fails is tried again
	samePortTries = 16              // to find a port that UDP and TCP both have free
)

// Server answers over UDP and TCP on one address. Make it with [Listen].
type Server struct {
	// Connections is how many connections of TCP there may be at once; more wait to be
	// accepted. It is set before Serve. Default: MaxConnections.
	Connections int

	responder *Responder
	log       *slog.Logger
	udp       *net.UDPConn
	waiting   chan struct{}  // as many as queries wait for etcd
	waiters   sync.WaitGroup // they
	tcp       *net.TCPListener
}

// Listen opens UDP and TCP on one address, host:port; port 0 is a free one, the same
// for both. A server that is not served must be closed. A nil logger is slog.Default.
func Listen(address string, r *Responder, log *slog.Logger) (*Server, error) {
	if log == nil {
		log = slog.Default()
	}
	s := &Server{Connections: MaxConnections, responder: r, log: log, waiting: make(chan struct{}, maxWaiting)}
	var err error
	for range samePortTries {
		if err = s.listen(address); err == nil || !errors.Is(err, syscall.EADDRINUSE) || !wantsAnyPort(address) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("listen for DNS on %s: %w", address, err)
	}
	_ = s.udp.SetReadBuffer(receiveBuffer) // a wish
	return s, nil
}

func wantsAnyPort(address string) bool {
	_, port, err := net.SplitHostPort(address)
	return err == nil && port == "0"
}

func (s *Server) listen(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	s.tcp = l.(*net.TCPListener)
	at := s.tcp.Addr().(*net.TCPAddr)
	network := "udp"
	if at.IP.To4() != nil {
		network = "udp4" // as TCP's: a wildcard of one family must not become that of both
	}
	s.udp, err = net.ListenUDP(network, &net.UDPAddr{IP: at.IP, Port: at.Port, Zone: at.Zone})
	if err != nil {
		return errors.Join(err, s.tcp.Close())
	}
	if !at.IP.IsUnspecified() {
		return nil
	}
	if err := tellDestination(s.udp); err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
}

// Addr is the address that both UDP and TCP listen on.
func (s *Server) Addr() netip.AddrPort { return s.tcp.Addr().(*net.TCPAddr).AddrPort() }

// Close releases what Listen has opened, of a server that is not served.
func (s *Server) Close() error {
	return errors.Join(s.udp.Close(), s.tcp.Close())
}

// Serve answers until ctx ends, and closes what the server listens on. Queries that
// have come in by then are answered. It returns nil when ctx ended it.
func (s *Server) Serve(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for range max(2, runtime.GOMAXPROCS(0)) {
		group.Go(func() error { return s.serveUDP(ctx) })
	}
	group.Go(func() error { return s.serveTCP(ctx) })
	group.Go(func() error {
		<-ctx.Done()
		return s.Close()
	})
	defer s.waiters.Wait()
	return group.Wait()
}

// paused waits after a failure of a socket that may pass, and reports whether ctx has
// ended instead.
func (s *Server) paused(ctx context.Context, network string, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	s.log.Warn("DNS socket fails; trying again", "network", network, "address", s.Addr().String(), "error", err)
	select {
	case <-ctx.Done():
		return false
	case <-time.After(failurePause):
		return true
	}
}
