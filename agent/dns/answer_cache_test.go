package dns

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"disc/agent/answercache"
	"disc/discovery/retry/retrytest"
	"disc/discovery/view"
)

// webCatalog returns a catalog that has the service web with n instances.
func webCatalog(t testing.TB, n int) *fakeCatalog {
	f := &fakeCatalog{view: view.View{Snapshot: view.EmptySnapshot()}}
	changes := make([]view.Change, n)
	for k := range n {
		changes[k] = put(fmt.Sprintf("web/instances/web-%d", k), fmt.Sprintf(`"address":"10.1.%d.%d","port":8080,"meta":{"n":"%d"}`, k>>8, k&255, k))
	}
	f.apply(t, 7, changes...)
	return f
}

// addressesOf returns the addresses of an answer, sorted. It fails the test if one is
// there twice.
func addressesOf(t *testing.T, m *dns.Msg) []string {
	t.Helper()
	seen := map[string]bool{}
	for _, rr := range m.Answer {
		a := rr.(*dns.A).A.String()
		if seen[a] {
			t.Fatalf("%s is there twice", a)
		}
		seen[a] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

func TestWhatFitsOverUDP(t *testing.T) {
	r := responder(t, webCatalog(t, 200), Options{})
	tests := []struct {
		qtype uint16
		size  uint16 // of EDNS; 0: none
		tc    bool
		least int // records, about what there is room for
	}{
		{dns.TypeA, 0, false, 29}, {dns.TypeA, 100, false, 28}, {dns.TypeA, 512, false, 28}, {dns.TypeA, 1000, false, 58},
		{dns.TypeA, 1232, false, 73}, {dns.TypeA, 4096, false, 73},
		{dns.TypeSRV, 0, true, 11}, {dns.TypeSRV, 1000, true, 22}, {dns.TypeSRV, 4096, true, 28},
		{dns.TypeTXT, 0, true, 27}, {dns.TypeTXT, 4096, true, 60},
		{dns.TypePTR, 0, false, 0},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s in %d", dns.TypeToString[tt.qtype], tt.size), func(t *testing.T) {
			limit := plainSize
			for range 2 * answercache.MaxOrders {
				q := newQuery("web.disc.", tt.qtype)
				if tt.size > 0 {
					q.SetEdns0(tt.size, false)
					limit = min(max(int(tt.size), plainSize), ednsSize)
				}
				b, _, _ := r.respond(nil, nil, packet(t, q), udpLimit)
				m := new(dns.Msg)
				if err := m.Unpack(b); err != nil || len(b) > limit || m.Truncated != tt.tc || len(m.Answer) < tt.least {
					t.Fatalf("%s in %d: %d bytes, %d records, TC %t, %v", dns.TypeToString[tt.qtype], tt.size, len(b), len(m.Answer), m.Truncated, err)
				}
			}
		})
	}
}

// TestLoopbackGetsWhatItOffers expects that a client on this host gets answers of the size that it
// offers, and that another does not.
func TestLoopbackGetsWhatItOffers(t *testing.T) {
	r := responder(t, webCatalog(t, 200), Options{})
	for _, tt := range []struct {
		client string
		size   uint16 // of EDNS; 0: none
		tc     bool
		least  int
	}{
		{"127.0.0.1", 0, true, 11}, {"127.0.0.1", 1232, true, 28}, {"127.0.0.1", 4096, true, 90},
		{"127.0.0.2", 8192, false, 200}, {"::1", 8192, false, 200}, {"::ffff:127.0.0.1", 65535, false, 200},
		{"10.0.0.1", 8192, true, 28},
	} {
		t.Run(fmt.Sprintf("%s offers %d", tt.client, tt.size), func(t *testing.T) {
			for range 2 * answercache.MaxOrders { // from the cache, too
				q := newQuery("web.disc.", dns.TypeSRV)
				if tt.size > 0 {
					q.SetEdns0(tt.size, false)
				}
				m := exchange(t, r, q, limitOf(netip.MustParseAddr(tt.client)))
				if m.Truncated != tt.tc || len(m.Answer) < tt.least {
					t.Fatalf("%d answers, want %d; TC %t", len(m.Answer), tt.least, m.Truncated)
				}
			}
		})
	}
}

// TestCutAnswersAreCached expects that what is cut to a widespread size is cached, beside the whole.
func TestCutAnswersAreCached(t *testing.T) {
	for size, limit := range map[uint16]int{0: udpLimit, 1232: udpLimit, 4096: localUDPLimit, 8192: localUDPLimit, localSize: localUDPLimit, 65535: localUDPLimit} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			f := webCatalog(t, 2000)
			q := newQuery("web.disc.", dns.TypeSRV)
			if size > 0 {
				q.SetEdns0(size, false)
			}
			web, _ := f.view.Snapshot.Service("web")
			cached := 0
			for range 20 { // in some orders the whole, which TCP bounds, fits into the largest size
				r := responder(t, f, Options{})
				exchange(t, r, q, limit)
				cached = max(cached, r.cache.Of(web).Len())
			}
			if cached != 2 {
				t.Errorf("%d answers are cached", cached)
			}
		})
	}
}

func TestGlueGoesFirst(t *testing.T) {
	r := responder(t, webCatalog(t, 10), Options{})
	m := exchange(t, r, newQuery("web.disc.", dns.TypeSRV), 0)
	if m.Truncated || len(m.Answer) != 10 || len(m.Extra) == 0 || len(m.Extra) == 10 {
		t.Errorf("TC %t, %d answers, %d additional", m.Truncated, len(m.Answer), len(m.Extra))
	}
	if m = exchange(t, r, newQuery("web.disc.", dns.TypeSRV).SetEdns0(1232, false), 0); len(m.Answer) != 10 || len(m.Extra) != 11 {
		t.Errorf("%d answers, %d additional", len(m.Answer), len(m.Extra))
	}
}

func TestWholeOverTCP(t *testing.T) {
	r := responder(t, webCatalog(t, 1200), Options{})
	m := exchange(t, r, newQuery("web.disc.", dns.TypeSRV), wholeSize)
	if m.Truncated || len(m.Answer) != 1200 {
		t.Errorf("SRV: TC %t, %d answers", m.Truncated, len(m.Answer))
	}
	if m = exchange(t, r, newQuery("web.disc.", dns.TypeA), wholeSize); m.Truncated || len(addressesOf(t, m)) != 1200 {
		t.Errorf("A: TC %t, %d answers", m.Truncated, len(m.Answer))
	}
	r = responder(t, webCatalog(t, 5000), Options{}) // more than a message holds
	if m = exchange(t, r, newQuery("web.disc.", dns.TypeSRV), wholeSize); !m.Truncated || len(m.Answer) < 1300 {
		t.Errorf("SRV: TC %t, %d answers", m.Truncated, len(m.Answer))
	}
	if m = exchange(t, r, newQuery("web.disc.", dns.TypeA), wholeSize); m.Truncated || len(m.Answer) < 4000 {
		t.Errorf("A: TC %t, %d answers", m.Truncated, len(m.Answer))
	}
}

// TestOrdersVary checks that answers have several orders, and that these are replaced
// after some time.
func TestOrdersVary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := responder(t, webCatalog(t, 40), Options{})
		seen := map[string]bool{}
		ask := func(times int) int {
			for range times {
				m := exchange(t, r, newQuery("web.disc.", dns.TypeA), wholeSize)
				if len(addressesOf(t, m)) != 40 {
					t.Fatalf("answer %v", m)
				}
				seen[fmt.Sprint(m.Answer)] = true
			}
			return len(seen)
		}
		if n := ask(600); n != answercache.MaxOrders {
			t.Errorf("%d orders, want %d", n, answercache.MaxOrders)
		}
		time.Sleep(orderLifetime)
		if n := ask(100); n != answercache.MaxOrders {
			t.Errorf("%d orders after a second, want %d", n, answercache.MaxOrders)
		}
		time.Sleep(40*recordLifetime + 1)
		if n := ask(600); n != 2*answercache.MaxOrders {
			t.Errorf("%d orders after their time, want %d", n, 2*answercache.MaxOrders)
		}
	})
}

// TestEachInstanceHasItsTurn checks that answers without room for all instances leave
// none of them out for long.
func TestEachInstanceHasItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := responder(t, webCatalog(t, 200), Options{})
		for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV, dns.TypeTXT} {
			seen := map[string]bool{}
			for range 300 {
				for _, rr := range exchange(t, r, newQuery("web.disc.", qtype), 0).Answer {
					seen[rr.String()] = true
				}
				time.Sleep(10 * orderLifetime)
			}
			if len(seen) != 200 {
				t.Errorf("%s: %d of 200 were ever answered", dns.TypeToString[qtype], len(seen))
			}
		}
	})
}

func TestCachedAnswersGoWithTheirRevision(t *testing.T) {
	f := webCatalog(t, 1)
	r := responder(t, f, Options{})
	ask := func(qtype uint16) string { return show(exchange(t, r, newQuery("web.disc.", qtype), 0)) }
	soa := func(serial int) string {
		return fmt.Sprintf("NOERROR |  | disc. SOA 7f000001.addr.disc. hostmaster.disc. %d 3600 600 86400 1", serial)
	}
	if got := ask(dns.TypeAAAA); got != soa(7) {
		t.Error(got)
	}
	f.apply(t, 8, put("other/instances/o", ""))
	if got := ask(dns.TypeAAAA); got != soa(8) { // cached, with the serial of the view
		t.Error(got)
	}
	f.apply(t, 9, put("web/instances/web-0", `"address":"2001:db8::1"`))
	if got := ask(dns.TypeAAAA); got != "NOERROR | web.disc. AAAA 2001:db8::1" {
		t.Error(got)
	}
	f.apply(t, 10, gone("web/instances/web-0"))
	if got := ask(dns.TypeAAAA); got != soa(10) {
		t.Error(got)
	}
}

// TestCachedAnswersAreBounded asks more questions than the cache has room for.
func TestCachedAnswersAreBounded(t *testing.T) {
	f := webCatalog(t, 2)
	r := responder(t, f, Options{})
	for n := range 2 * answercache.MaxQuestions {
		exchange(t, r, newQuery(fmt.Sprintf("tag-%d.web.disc.", n), dns.TypeA), 0)
		exchange(t, r, newQuery("web.disc.", uint16(1000+n)), 0)
		exchange(t, r, newQuery("web-1._web._tcp.svc.disc.", dns.TypeTXT), 0)
		exchange(t, r, newQuery("web.disc.", dns.TypeSRV).SetEdns0(uint16(512+n), false), 0)
	}
	web, _ := f.view.Snapshot.Service("web")
	if n := r.cache.Of(web).Len(); n != 2 { // SRV, and one for all types without records
		t.Errorf("%d answers are cached", n)
	}
	var changes []view.Change
	for n := range 2 * answercache.MaxQuestions {
		changes = append(changes, put(fmt.Sprintf("tagged/instances/i%d", n), fmt.Sprintf(`"tags":["t%d"]`, n)))
	}
	f.apply(t, 9, changes...)
	for n := range 2 * answercache.MaxQuestions {
		if m := exchange(t, r, newQuery(fmt.Sprintf("t%d.tagged.disc.", n), dns.TypeA), 0); len(m.Answer) != 1 {
			t.Fatalf("t%d: %v", n, m)
		}
	}
	tagged, _ := f.view.Snapshot.Service("tagged")
	if n := r.cache.Of(tagged).Len(); n != answercache.MaxQuestions {
		t.Errorf("%d answers are cached", n)
	}
}

func TestCachedAnswersAllocateNothing(t *testing.T) {
	r := responder(t, webCatalog(t, 10), Options{})
	out := make([]byte, 0, ednsSize)
	for _, name := range []string{"web.disc.", "web.svc.disc.", "_web._tcp.svc.disc."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeTXT} {
			q := packet(t, newQuery(strings.ToUpper(name), qtype).SetEdns0(1232, false))
			respond := func() { _, _, _ = r.respond(nil, out, q, udpLimit) }
			for range answercache.MaxOrders * answercache.MaxOrders { // until all orders are made
				respond()
			}
			if n := retrytest.Allocations(2000, respond); n > 0 {
				t.Errorf("%s %s: %v allocations", name, dns.TypeToString[qtype], n)
			}
		}
	}
}
