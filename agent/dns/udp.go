package dns

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

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
	if !s.admits(to.Addr()) {
		return
	}
	answer, rcode, ok := s.responder.respond(nil, out, in, limitOf(to.Addr()))
	if ok {
		answer = s.limit(in, answer, rcode, to.Addr())
		_, _ = s.udp.WriteToUDPAddrPort(answer, to) // a caller without an answer repeats the query
	} else if rcode == rcodePending {
		s.answerLater(ctx, in, to.Addr(), func(answer []byte) { _, _ = s.udp.WriteToUDPAddrPort(answer, to) })
	}
}

// limitOf returns the limit of an answer to a client over UDP. Over loopback no answer loses fragments,
// and nobody can forge an address. A forwarder on this host asks over loopback too, for clients whose
// addresses may be forged: it must bound the size that it offers, as the files in the folder deploy do.
func limitOf(client netip.Addr) int {
	if client.Unmap().IsLoopback() {
		return localUDPLimit
	}
	return udpLimit
}

// admits reports whether a client is answered. The query of another is dropped without an answer,
// since its address may be that of a victim.
func (s *Server) admits(client netip.Addr) bool {
	if s.Networks == nil || s.Networks.Contains(client) {
		return true
	}
	s.responder.metrics.foreign.Inc()
	return false
}

// limit returns the answer to send over UDP: a truncated one where the client's network has had
// its share of answers that are longer than their query.
func (s *Server) limit(in, answer []byte, rcode int, client netip.Addr) []byte {
	if s.limiter == nil || len(answer) <= len(in) || s.spares(client) || s.limiter.allow(client, rcode, time.Now()) {
		return answer
	}
	s.responder.metrics.truncated.Inc()
	return s.responder.truncate(answer[:0], in)
}

// spares reports whether a client is never limited.
func (s *Server) spares(client netip.Addr) bool {
	client = client.Unmap().WithZone("")
	return client.IsLoopback() || s.SparePrivate && contain(privateNetworks, client)
}

// answerLater answers a query that has to wait for etcd, in a goroutine of its own. It
// drops the query when too many wait already; the caller repeats it.
func (s *Server) answerLater(ctx context.Context, in []byte, client netip.Addr, send func(answer []byte)) {
	select {
	case s.pending <- struct{}{}:
	default:
		return
	}
	in = slices.Clone(in)
	s.pendingAnswers.Go(func() {
		defer func() { <-s.pending }()
		if answer, rcode, ok := s.responder.respond(s.responder.completer(ctx), nil, in, limitOf(client)); ok {
			send(s.limit(in, answer, rcode, client))
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
		client := session.RemoteAddr().(*net.UDPAddr).AddrPort().Addr()
		if !s.admits(client) {
			continue
		}
		answer, rcode, ok := s.responder.respond(nil, out, in[:n], limitOf(client))
		if ok {
			_, _ = dns.WriteToSessionUDP(s.udp, s.limit(in[:n], answer, rcode, client), session) // see answerUDP
		} else if rcode == rcodePending {
			s.answerLater(ctx, in[:n], client, func(answer []byte) { _, _ = dns.WriteToSessionUDP(s.udp, answer, session) })
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
