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

// maxQuery is the longest query over UDP that is read; the question has 271 bytes at
// most, and the rest is for what EDNS options may bring.
const maxQuery = 4096

// serveUDP reads, answers and writes one query after another. Some of these loops
// share the socket.
func (s *Server) serveUDP(ctx context.Context) error {
	if s.Addr().Addr().IsUnspecified() {
		return s.serveWildcard(ctx)
	}
	in, out := make([]byte, maxQuery), make([]byte, 0, ednsSize)
	for {
		n, from, err := s.udp.ReadFromUDPAddrPort(in)
		if err != nil {
			if s.paused(ctx, "udp", err) {
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
		_, _ = s.udp.WriteToUDPAddrPort(answer, to) // whoever misses it asks again
	} else if rcode == unread {
		s.later(ctx, in, func(answer []byte) { _, _ = s.udp.WriteToUDPAddrPort(answer, to) })
	}
}

// later answers a query whose answer has to wait for etcd beside the others. When many
// do already it is dropped, and asked again.
func (s *Server) later(ctx context.Context, in []byte, send func(answer []byte)) {
	select {
	case s.waiting <- struct{}{}:
	default:
		return
	}
	in = slices.Clone(in)
	s.waiters.Go(func() {
		defer func() { <-s.waiting }()
		if answer, _, ok := s.responder.respond(s.responder.completes(ctx), nil, in, 0); ok {
			send(answer)
		}
	})
}

// serveWildcard does the same on a socket that listens on all of the host's addresses:
// an answer must come from the one that was asked.
func (s *Server) serveWildcard(ctx context.Context) error {
	in, out := make([]byte, maxQuery), make([]byte, 0, ednsSize)
	for {
		n, session, err := dns.ReadFromSessionUDP(s.udp, in)
		if err != nil {
			if s.paused(ctx, "udp", err) {
				continue
			}
			return nil
		}
		answer, rcode, ok := s.responder.respond(nil, out, in[:n], 0)
		if ok {
			_, _ = dns.WriteToSessionUDP(s.udp, answer, session) // as above
		} else if rcode == unread {
			s.later(ctx, in[:n], func(answer []byte) { _, _ = dns.WriteToSessionUDP(s.udp, answer, session) })
		}
	}
}

// tellDestination makes the kernel say which address a packet was sent to. A socket of
// both families takes both options, one of IPv4 only the latter.
func tellDestination(c *net.UDPConn) error {
	err6 := ipv6.NewPacketConn(c).SetControlMessage(ipv6.FlagDst, true)
	err4 := ipv4.NewPacketConn(c).SetControlMessage(ipv4.FlagDst, true)
	if err6 != nil && err4 != nil {
		return err4
	}
	return nil
}
