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
	maxPending     = 256              // queries over UDP that wait for etcd at once
	idleTime       = 10 * time.Second // of a connection between two queries (RFC 7766)
	messageTime    = 5 * time.Second  // for the rest of a query to come in, and for an answer to go out

	receiveBuffer = 1 << 20         // bytes of queries in the socket; the kernel may give less
	retryDelay    = 1 * time.Second // after a failure of a socket
	samePortTries = 16              // to find a port that is free for both UDP and TCP
)

// Server answers over UDP and TCP on one address. Make it with [Listen].
type Server struct {
	// Connections is the greatest number of TCP connections at once; more wait to be
	// accepted. Set it before Serve. Default: MaxConnections.
	Connections int

	// Networks are the clients that are answered; queries of others are dropped, and their
	// connections closed. Set it before Serve. Default: all.
	Networks *Networks

	// RateLimit is the number of answers per second, 1 to [MaxRateLimit], that clients of one
	// network (/24 or /56) get whole over UDP, of each kind: of names that exist, and others. Beyond
	// it they get truncated ones, and ask again over TCP. Loopback is not limited. Set it
	// before Serve. Default: 0, no limit.
	RateLimit int

	// SparePrivate leaves clients in private networks (RFC 1918, RFC 6598, fc00::/7 and link-local
	// ones) without a limit. Set it before Serve.
	SparePrivate bool

	responder      *Responder
	log            *slog.Logger
	udp            *net.UDPConn
	pending        chan struct{}  // has one element for each query that waits for etcd
	pendingAnswers sync.WaitGroup // for those queries
	tcp            *net.TCPListener
	limiter        *rateLimiter // nil: no limit
}

// Listen opens UDP and TCP on one address of the form host:port. Port 0 is a free port,
// the same for both. Close a server that is never served. A nil logger discards.
func Listen(address string, r *Responder, log *slog.Logger) (*Server, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{Connections: MaxConnections, responder: r, log: log, pending: make(chan struct{}, maxPending)}
	var err error
	for range samePortTries {
		if err = s.listen(address); err == nil || !errors.Is(err, syscall.EADDRINUSE) || !wantsAnyPort(address) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("listen for DNS on %s: %w", address, err)
	}
	_ = s.udp.SetReadBuffer(receiveBuffer) // a smaller one will do
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
		network = "udp4" // the family of TCP: a wildcard of one family must not become one of both
	}
	s.udp, err = net.ListenUDP(network, &net.UDPAddr{IP: at.IP, Port: at.Port, Zone: at.Zone})
	if err != nil {
		return errors.Join(err, s.tcp.Close())
	}
	if !at.IP.IsUnspecified() {
		return nil
	}
	if err := requestDestination(s.udp); err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
}

// Addr returns the address that both UDP and TCP listen on.
func (s *Server) Addr() netip.AddrPort { return s.tcp.Addr().(*net.TCPAddr).AddrPort() }

// Close closes the sockets of a server that is not served.
func (s *Server) Close() error {
	return errors.Join(s.udp.Close(), s.tcp.Close())
}

// Serve answers queries until ctx ends, then closes the sockets. It answers the queries
// that have come in by then. It returns nil when ctx ended it.
func (s *Server) Serve(ctx context.Context) error {
	if s.RateLimit > 0 {
		s.limiter = newRateLimiter(min(s.RateLimit, MaxRateLimit))
	}
	group, ctx := errgroup.WithContext(ctx)
	for range max(2, runtime.GOMAXPROCS(0)) {
		group.Go(func() error { return s.serveUDP(ctx) })
	}
	group.Go(func() error { return s.serveTCP(ctx) })
	group.Go(func() error {
		<-ctx.Done()
		return s.Close()
	})
	defer s.pendingAnswers.Wait()
	return group.Wait()
}

// waitToRetry waits after a failure of a socket that may pass. It returns false when ctx
// ends.
func (s *Server) waitToRetry(ctx context.Context, network string, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	s.log.Warn("DNS socket failed; trying again", "network", network, "address", s.Addr().String(), "error", err)
	select {
	case <-ctx.Done():
		return false
	case <-time.After(retryDelay):
		return true
	}
}
