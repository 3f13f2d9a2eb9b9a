package dns

import (
	"context"
	"net"
	"net/netip"
	"slices"

	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// maxQuery is the greatest length of a query over UDP, in bytes. The question has at most
// 271; the rest is room for EDNS options.
const maxQuery = 4096

// serveUDP reads and answers one query after another. Several goroutines run it on one
// socket.
func (s *Server) serveUDP(ctx context.Context) error {
	if s.Addr().Addr().IsUnspecified() {
		return s.serveWildcard(ctx)
	}
	in, out := make([]byte, maxQuery), make([]byte, 0, ednsSize)
	for {
		n, from, err := s.udp.ReadFromUDPAddrPort(in)
		if err != nil {
			if s.waitToRetry(ctx, "udp", err) {
				continue
			}
			return nil
		}
		s.answerUDP(ctx, in[:n], out, from)
	}
}

func (s *Server) answerUDP(ctx context.Context, in, out []byte, to netip.AddrPort) {
	answer, rcode, ok := s.responder.respond(nil, out, in, 0)
	if ok {
		_, _ = s.udp.WriteToUDPAddrPort(answer, to) // a caller without an answer repeats the query
	} else if rcode == rcodePending {
		s.answerLater(ctx, in, func(answer []byte) { _, _ = s.udp.WriteToUDPAddrPort(answer, to) })
	}
}

// answerLater answers a query that has to wait for etcd, in a goroutine of its own. It
// drops the query when too many wait already; the caller repeats it.
func (s *Server) answerLater(ctx context.Context, in []byte, send func(answer []byte)) {
	select {
	case s.pending <- struct{}{}:
	default:
		return
	}
	in = slices.Clone(in)
	s.pendingAnswers.Go(func() {
		defer func() { <-s.pending }()
		if answer, _, ok := s.responder.respond(s.responder.completer(ctx), nil, in, 0); ok {
			send(answer)
		}
	})
}

// serveWildcard is serveUDP for a socket that listens on all addresses of the host: an
// answer must come from the address that the query was sent to.
func (s *Server) serveWildcard(ctx context.Context) error {
	in, out := make([]byte, maxQuery), make([]byte, 0, ednsSize)
	for {
		n, session, err := dns.ReadFromSessionUDP(s.udp, in)
		if err != nil {
			if s.waitToRetry(ctx, "udp", err) {
				continue
			}
			return nil
		}
		answer, rcode, ok := s.responder.respond(nil, out, in[:n], 0)
		if ok {
			_, _ = dns.WriteToSessionUDP(s.udp, answer, session) // see answerUDP
		} else if rcode == rcodePending {
			s.answerLater(ctx, in[:n], func(answer []byte) { _, _ = dns.WriteToSessionUDP(s.udp, answer, session) })
		}
	}
}

// requestDestination makes the kernel report the address that each packet was sent to. A
// socket of both families takes both options, one of IPv4 only the second.
func requestDestination(c *net.UDPConn) error {
	err6 := ipv6.NewPacketConn(c).SetControlMessage(ipv6.FlagDst, true)
	err4 := ipv4.NewPacketConn(c).SetControlMessage(ipv4.FlagDst, true)
	if err6 != nil && err4 != nil {
		return err4
	}
	return nil
}
