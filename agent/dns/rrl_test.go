package dns

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	dto "github.com/prometheus/client_model/go"

	"disc/discovery/retry/retrytest"
)

// count returns how many answers a limiter allows to clients, each asked once per step.
func count(l *rateLimiter, from time.Time, step time.Duration, steps, rcode int, clients ...string) int {
	allowed := 0
	for n := range steps {
		for _, c := range clients {
			if l.allow(netip.MustParseAddr(c), rcode, from.Add(time.Duration(n)*step)) {
				allowed++
			}
		}
	}
	return allowed
}

func TestRateLimiter(t *testing.T) {
	for _, test := range []struct {
		name    string
		clients []string
		kinds   []int
		want    int // of 10,000 answers in ten seconds to each, at 100 per second
	}{
		{"one client", []string{"192.0.2.1"}, []int{0}, 1099},
		{"clients of one /24", []string{"192.0.2.1", "192.0.2.255"}, []int{0}, 1099},
		{"clients of two /24", []string{"192.0.2.1", "192.0.3.1"}, []int{0}, 2 * 1099},
		{"clients of one /56", []string{"2001:db8:0:1::1", "2001:db8:0:ff::1"}, []int{0}, 1099},
		{"clients of two /56", []string{"2001:db8:0:1::1", "2001:db8:0:100::1"}, []int{0}, 2 * 1099},
		{"one client in both notations", []string{"192.0.2.1", "::ffff:192.0.2.1"}, []int{0}, 1099},
		{"two kinds", []string{"192.0.2.1"}, []int{dns.RcodeSuccess, dns.RcodeNameError}, 2 * 1099},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, got := newRateLimiter(100), 0
			for _, kind := range test.kinds {
				got += count(l, l.start, time.Millisecond, 10_000, kind, test.clients...)
			}
			if diff := got - test.want; diff < -2*len(test.clients) || diff > 2*len(test.clients) {
				t.Errorf("%d answers are allowed, want %d", got, test.want)
			}
			// after a pause the burst is there again, also when the time began anew
			for _, pause := range []time.Duration{time.Minute, rrlTimeMask*rrlTick + time.Hour} {
				if got := count(l, l.start.Add(pause), 0, 200, 0, test.clients[0]); got != 100 {
					t.Errorf("%d answers at once after %v, want 100", got, pause)
				}
			}
		})
	}
	for _, rate := range []int{7, 999, 60_000, 70_000, MaxRateLimit} { // exceeded by a tenth at most
		l, got := newRateLimiter(rate), 0
		for n := range 101 {
			got += count(l, l.start.Add(time.Duration(n)*100*time.Millisecond), 0, rate/5+1, 0, "192.0.2.1")
		}
		if got < 10*rate || got > 11*rate*11/10 {
			t.Errorf("%d answers in ten seconds at a rate of %d", got, rate)
		}
	}
	for _, rate := range []int{1, 7, 1000, MaxRateLimit} {
		l := newRateLimiter(rate)
		if got := count(l, l.start, 0, rate+10, 0, "192.0.2.1"); got != rate {
			t.Errorf("%d answers at once at a rate of %d", got, rate)
		}
	}
}

// A flood from more networks than there are slots gets no more than the slots give, and nothing
// grows.
func TestRateLimiterOfManyNetworks(t *testing.T) {
	l, allowed := newRateLimiter(10), 0
	const queries = 1 << 20
	for n := range uint32(queries) {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], n<<8)
		if l.allow(netip.AddrFrom4(b), 0, l.start) {
			allowed++
		}
	}
	if most := 10 * rrlSlots; allowed > most || allowed < most/2 {
		t.Errorf("%d of %d answers at once are allowed, want about %d", allowed, queries, most)
	}
	if got := count(l, l.start.Add(2*time.Second), 0, 20, 0, "192.0.2.1"); got != 10 {
		t.Errorf("%d answers after the flood, want 10", got)
	}
	if allocated := retrytest.Allocations(1000, func() { l.allow(netip.AddrFrom4([4]byte{192, 0, 2, 1}), 0, l.start) }); allocated != 0 {
		t.Errorf("%v allocations for an answer", allocated)
	}
}

// TestAmplification sends what an attacker sends, with the address of a victim, and weighs what the
// victim gets.
func TestAmplification(t *testing.T) {
	victim := netip.MustParseAddr("198.51.100.7")
	questions := map[string]*dns.Msg{
		"all instances":      newQuery("_web._tcp.svc.disc.", dns.TypeSRV).SetEdns0(4096, true),
		"without EDNS":       newQuery("web.disc.", dns.TypeA),
		"any":                newQuery("web.disc.", dns.TypeANY).SetEdns0(4096, true),
		"no such name":       newQuery("no.disc.", dns.TypeA).SetEdns0(4096, true),
		"no record":          newQuery("web.disc.", dns.TypeMX).SetEdns0(4096, true),
		"browsing":           newQuery("_services._dns-sd._udp.svc.disc.", dns.TypePTR).SetEdns0(4096, true),
		"outside the domain": newQuery("example.com.", dns.TypeA).SetEdns0(4096, true),
		"another class":      {MsgHdr: dns.MsgHdr{Id: 1}, Question: []dns.Question{{Name: "web.disc.", Qtype: dns.TypeA, Qclass: dns.ClassCHAOS}}},
	}
	const perSecond, seconds = 10_000, 4
	for name, q := range questions {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &Server{responder: responder(t, webCatalog(t, 100), Options{}), limiter: newRateLimiter(200), SparePrivate: true}
				in, out := packet(t, q), make([]byte, 0, ednsSize)
				bytesIn, bytesOut, longer := 0, 0, 0
				for range perSecond * seconds {
					answer, rcode, ok := s.responder.respond(nil, out, in, udpLimit)
					if !ok {
						t.Fatal("no answer")
					}
					answer = s.limit(in, answer, rcode, victim)
					bytesIn, bytesOut = bytesIn+len(in), bytesOut+len(answer)
					if len(answer) > len(in) {
						longer++
					}
					time.Sleep(time.Second / perSecond)
				}
				if factor := float64(bytesOut) / float64(bytesIn); factor > 2 || longer > 200*(seconds+1) {
					t.Errorf("%d bytes for %d, a factor of %.2f; %d answers are longer than their query", bytesOut, bytesIn, factor, longer)
				}
			})
		})
	}
}

// A truncated answer has the question, and makes a client ask over TCP.
func TestTruncatedAnswer(t *testing.T) {
	r := responder(t, webCatalog(t, 100), Options{})
	s := &Server{responder: r, limiter: newRateLimiter(1)}
	for _, q := range []*dns.Msg{newQuery("Web.disc.", dns.TypeA), newQuery("web.disc.", dns.TypeSRV).SetEdns0(4096, true), newQuery("no.disc.", dns.TypeA)} {
		in := packet(t, q)
		for range 2 {
			answer, rcode, _ := r.respond(nil, nil, in, udpLimit)
			answer = s.limit(in, answer, rcode, netip.MustParseAddr("192.0.2.1"))
			var m dns.Msg
			if err := m.Unpack(answer); err != nil {
				t.Fatal(err)
			}
			if len(answer) > len(in) && !m.Truncated {
				continue // the first
			}
			if len(answer) > len(in) || !m.Truncated || m.Id != q.Id || m.Rcode != dns.RcodeSuccess || len(m.Answer) > 0 || len(m.Question) != 1 || m.Question[0] != q.Question[0] || (m.IsEdns0() == nil) != (q.IsEdns0() == nil) {
				t.Errorf("%d bytes for %d:\n%v", len(answer), len(in), &m)
			}
		}
		if answer, rcode, _ := r.respond(nil, nil, in, udpLimit); len(s.limit(in, answer, rcode, netip.MustParseAddr("127.0.0.1"))) != len(answer) {
			t.Error("loopback is limited")
		}
	}
	var truncated dto.Metric
	if err := r.metrics.truncated.Write(&truncated); err != nil || truncated.GetCounter().GetValue() < 3 {
		t.Errorf("%v truncated answers are counted (%v)", truncated.GetCounter().GetValue(), err)
	}
}

// Where private networks are spared, a client of one gets whole answers, and others do not.
func TestSparedNetworks(t *testing.T) {
	r := responder(t, webCatalog(t, 100), Options{})
	in := packet(t, newQuery("web.disc.", dns.TypeSRV).SetEdns0(4096, true))
	answer, rcode, _ := r.respond(nil, nil, in, udpLimit)
	for client, private := range map[string]bool{
		"127.0.0.1": true, "172.17.0.2": true, "::ffff:10.0.0.1": true, "100.64.0.1": true, "fd00::1": true, "fe80::1%eth0": true,
		"198.51.100.7": false, "2001:db8::1": false,
	} {
		for _, spare := range []bool{true, false} {
			s := &Server{responder: r, limiter: newRateLimiter(1), SparePrivate: spare}
			s.limiter.allow(netip.MustParseAddr(client), rcode, time.Now())
			want := client == "127.0.0.1" || spare && private
			if whole := len(s.limit(in, slices.Clone(answer), rcode, netip.MustParseAddr(client))) == len(answer); whole != want {
				t.Errorf("%s has a whole answer: %v, want %v (SparePrivate %v)", client, whole, want, spare)
			}
		}
	}
}

func TestNetworks(t *testing.T) {
	own := []netip.Prefix{}
	reads := 0
	near := NearNetworks()
	near.own = func() []netip.Prefix { reads++; return own }
	listed := ListedNetworks([]netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8::/32")})
	expect := func(n *Networks, client string, want bool) {
		t.Helper()
		if got := n.Contains(netip.MustParseAddr(client)); got != want {
			t.Errorf("%s is answered: %v, want %v", client, got, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		for client, want := range map[string][2]bool{ // near, listed
			"127.0.0.1": {true, true}, "::1": {true, true}, "::ffff:127.0.0.1": {true, true},
			"10.1.2.3": {true, false}, "172.17.0.2": {true, false}, "172.32.0.1": {false, false}, "192.168.1.1": {true, false}, "::ffff:10.0.0.1": {true, false},
			"100.64.0.1": {true, false}, "169.254.1.1": {true, false}, "fd00::1": {true, false}, "fe80::1%eth0": {true, false},
			"203.0.113.9": {false, true}, "2001:db8::1": {false, true}, "8.8.8.8": {false, false}, "2606:4700::1": {false, false},
		} {
			expect(near, client, want[0])
			expect(listed, client, want[1])
		}
		if reads != 1 {
			t.Errorf("the host's networks are read %d times, want once in %v", reads, ownInterval)
		}
		// an address that the host gets later
		own = []netip.Prefix{netip.MustParsePrefix("2606:4700::/64")}
		expect(near, "2606:4700::1", false)
		time.Sleep(ownInterval)
		expect(near, "2606:4700::1", true)
		expect(near, "2606:4700:0:1::1", false)
	})
}
