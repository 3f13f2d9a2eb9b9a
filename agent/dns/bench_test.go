package dns

import (
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// clients is the number of concurrent callers in the benchmarks, each with one query at a
// time.
const clients = 32

// BenchmarkUDP compares answers with A records of 10 instances over UDP to a bare handler
// of the DNS library that packs the same answer. It reports the ratio of the rates.
func BenchmarkUDP(b *testing.B) {
	r := responder(b, webCatalog(b, 10), Options{})
	ours, bare := serve(b, "127.0.0.1:0", r).String(), serveBare(b, r)
	var took [2]time.Duration
	rounds := 0
	for b.Loop() {
		for n, at := range []string{ours, bare} {
			start := time.Now()
			askUDP(b, at, 5000)
			took[n] += time.Since(start)
		}
		rounds++
	}
	b.ReportMetric(5000*float64(rounds)/took[0].Seconds(), "disc/s")
	b.ReportMetric(5000*float64(rounds)/took[1].Seconds(), "bare/s")
	b.ReportMetric(took[1].Seconds()/took[0].Seconds(), "ratio")
}

// serveBare serves one fixed answer by a handler of the library.
func serveBare(b *testing.B, r *Responder) string {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	records := exchange(b, r, newQuery("web.disc.", dns.TypeA), 0).Answer
	started := make(chan struct{})
	s := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.Authoritative, m.Compress, m.Answer = true, true, records
		_ = w.WriteMsg(m)
	})}
	done := make(chan error, 1)
	go func() { done <- s.ActivateAndServe() }()
	<-started
	b.Cleanup(func() {
		if err := s.Shutdown(); err != nil {
			b.Error(err)
		}
		<-done
	})
	return conn.LocalAddr().String()
}

// askUDP sends n queries and reads their answers.
func askUDP(b *testing.B, at string, n int) {
	query := packet(b, newQuery("web.disc.", dns.TypeA))
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			conn, err := net.Dial("udp", at)
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			answer := make([]byte, ednsSize)
			for range n / clients {
				if _, err := conn.Write(query); err != nil {
					b.Error(err)
					return
				}
				if _, err := conn.Read(answer); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
}

func BenchmarkRespond(b *testing.B) {
	r := responder(b, webCatalog(b, 10), Options{})
	out := make([]byte, 0, ednsSize)
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV} {
		q := packet(b, newQuery("web.svc.disc.", qtype).SetEdns0(1232, false))
		b.Run(dns.TypeToString[qtype], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _, _ = r.respond(nil, out, q, udpLimit)
			}
		})
	}
}

// BenchmarkLimit measures what rate limiting adds to an answer: where it is off, where there is room, and
// where the answer is truncated.
func BenchmarkLimit(b *testing.B) {
	r := responder(b, webCatalog(b, 10), Options{})
	out := make([]byte, 0, ednsSize)
	q := packet(b, newQuery("web.svc.disc.", dns.TypeA))
	for name, limiter := range map[string]*rateLimiter{"off": nil, "room": newRateLimiter(MaxRateLimit), "truncated": newRateLimiter(1)} {
		s := &Server{responder: r, limiter: limiter}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for n := uint16(0); b.Loop(); n++ {
				client := netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), 1}) // each network asks now and then
				if name == "truncated" {
					client = netip.AddrFrom4([4]byte{10, 0, 0, 1})
				}
				answer, rcode, _ := r.respond(nil, out, q, udpLimit)
				s.limit(q, answer, rcode, client)
			}
		})
	}
}

// BenchmarkParallel answers on all processors at once.
func BenchmarkParallel(b *testing.B) {
	r := responder(b, webCatalog(b, 10), Options{})
	q := packet(b, newQuery("web.disc.", dns.TypeA))
	b.RunParallel(func(pb *testing.PB) {
		out := make([]byte, 0, ednsSize)
		for pb.Next() {
			_, _, _ = r.respond(nil, out, q, udpLimit)
		}
	})
}

// BenchmarkMake measures answers that are not cached.
func BenchmarkMake(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		r := responder(b, webCatalog(b, n), Options{})
		var q query
		q.read(packet(b, newQuery("web.disc.", dns.TypeA)), r.zone.wire)
		view, _ := r.catalog.View()
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			for b.Loop() {
				ask, _ := q.question()
				r.zone.pack(view.Snapshot, ask, r.zone.resolve(view.Snapshot, ask), plainSize)
			}
		})
	}
}
