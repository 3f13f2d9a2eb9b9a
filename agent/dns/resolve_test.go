package dns

import (
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"disc/discovery"
	"disc/discovery/view"
)

// soa50 is the authority of negative answers at revision 50.
const soa50 = " | disc. SOA 7f000001.addr.disc. hostmaster.disc. 50 3600 600 86400 1"

func TestAnswers(t *testing.T) {
	const (
		noData = "NOERROR | " + soa50
		none   = "NXDOMAIN | " + soa50
		no     = "REFUSED not-aa"
	)
	long := strings.Repeat("x", 64)
	tests := []struct{ question, want string }{
		// Services.
		{"web. A", no},
		{"web.disc. A", "NOERROR | web.disc. A 10.0.0.5, web.disc. A 10.0.0.6"},
		{"web.svc.disc. A", "NOERROR | web.svc.disc. A 10.0.0.5, web.svc.disc. A 10.0.0.6"},
		{"web.svc.disc. AAAA", "NOERROR | web.svc.disc. AAAA 2001:db8::7"},
		{"v2.web.disc. A", "NOERROR | v2.web.disc. A 10.0.0.6"},
		{"v1.web.svc.disc. AAAA", noData},
		{"v3.web.svc.disc. A", noData},
		{"v9.web.svc.disc. A", none},
		{"x.v2.web.disc. A", none},
		{"_web._tcp.svc.disc. A", "NOERROR | _web._tcp.svc.disc. A 10.0.0.5, _web._tcp.svc.disc. A 10.0.0.6"},
		{"web.svc.disc. SRV", "NOERROR | web.svc.disc. SRV 0 65535 80 web-1.web.inst.disc., web.svc.disc. SRV 0 9362 81 web-2.web.inst.disc., " +
			"web.svc.disc. SRV 0 9362 82 web-3.web.inst.disc. |  | web-1.web.inst.disc. A 10.0.0.5, web-2.web.inst.disc. A 10.0.0.6, web-3.web.inst.disc. AAAA 2001:db8::7"},
		{"_web._udp.svc.disc. SRV", "NOERROR | _web._udp.svc.disc. SRV 0 65535 80 web-1.web.inst.disc., _web._udp.svc.disc. SRV 0 9362 81 web-2.web.inst.disc., " +
			"_web._udp.svc.disc. SRV 0 9362 82 web-3.web.inst.disc. |  | web-1.web.inst.disc. A 10.0.0.5, web-2.web.inst.disc. A 10.0.0.6, web-3.web.inst.disc. AAAA 2001:db8::7"},
		{"_grpc._tcp.web.svc.disc. SRV", "NOERROR | _grpc._tcp.web.svc.disc. SRV 0 65535 90 web-1.web.inst.disc. |  | web-1.web.inst.disc. A 10.0.0.5"},
		{"_http._tcp.web.svc.disc. SRV", none},
		{"web.disc. TXT", `NOERROR | web.disc. TXT "a=1" "b=2"`},
		{"db.disc. TXT", noData},
		{"web.disc. MX", noData},
		{"web.disc. TYPE65280", noData},
		{"web.disc. PTR", noData},
		{"web.disc. ANY", `NOERROR | web.disc. HINFO "RFC8482" ""`},
		{"addr.disc. ANY", `NOERROR | addr.disc. HINFO "RFC8482" ""`},
		{"spare.disc. SRV", "NOERROR | spare.disc. SRV 0 0 1 s1.spare.inst.disc. |  | s1.spare.inst.disc. A 10.0.0.5"},

		// Known, without instances.
		{"ill.disc. A", noData},
		{"ill.disc. SRV", noData},
		{"ill.disc. ANY", noData},
		{"_ill._tcp.svc.disc. SRV", noData},
		{"gone.disc. A", noData},
		{"v1.gone.disc. A", none},
		{"nothing.disc. A", none},
		{"_nothing._tcp.svc.disc. SRV", none},

		// Names with a dot are for the other protocols.
		{"my.app.disc. A", none},
		{"v2.web.svc.disc. A", "NOERROR | v2.web.svc.disc. A 10.0.0.6"},
		{`v2\.web.disc. A`, none},
		{`we\000b.disc. A`, none},
		{`\.web.disc. A`, none},

		// Addresses that are host names.
		{"db.disc. A", "NOERROR | db.disc. CNAME db.example.com."},
		{"main.db.inst.disc. AAAA", "NOERROR | main.db.inst.disc. CNAME db.example.com."},
		{"db.disc. CNAME", "NOERROR | db.disc. CNAME db.example.com."},
		{"mixed.disc. CNAME", noData},
		{"db.disc. SRV", "NOERROR | db.disc. SRV 0 65535 5432 db.example.com."},
		{"mixed.disc. A", "NOERROR | mixed.disc. A 10.0.0.5"},
		{"mixed.disc. AAAA", noData},
		{"mixed.disc. SRV", "NOERROR | mixed.disc. SRV 0 65535 1 h.example.com., mixed.disc. SRV 0 65535 2 ip.mixed.inst.disc. |  | ip.mixed.inst.disc. A 10.0.0.5"},

		// Instances.
		{"web-1.web.inst.disc. A", "NOERROR | web-1.web.inst.disc. A 10.0.0.5"},
		{"web-1.web.inst.disc. AAAA", noData},
		{"web-3.web.inst.disc. AAAA", "NOERROR | web-3.web.inst.disc. AAAA 2001:db8::7"},
		{"web-1.web.inst.disc. SRV", "NOERROR | web-1.web.inst.disc. SRV 0 65535 80 web-1.web.inst.disc. |  | web-1.web.inst.disc. A 10.0.0.5"},
		{"web-1.web.inst.disc. TXT", `NOERROR | web-1.web.inst.disc. TXT "a=1" "b=2"`},
		{"web-2.web.inst.disc. TXT", noData},
		{"sick.web.inst.disc. A", noData},
		{"down.web.inst.disc. A", noData},
		{"web-9.web.inst.disc. A", none},
		{"a.b.odd.inst.disc. A", "NOERROR | a.b.odd.inst.disc. A 10.0.0.5"},
		{"c:d.odd.inst.disc. A", "NOERROR | c:d.odd.inst.disc. A 10.0.1.2"},
		{"one.odd.inst.disc. A", "NOERROR | one.odd.inst.disc. A 10.0.1.3"},
		{"TWO.odd.inst.disc. A", "NOERROR | TWO.odd.inst.disc. A 10.0.1.5"},
		{"odd.disc. SRV", "NOERROR | odd.disc. SRV 0 65535 1 0a000005.addr.disc., odd.disc. SRV 0 65535 2 0a000102.addr.disc., odd.disc. SRV 0 65535 3 One.odd.inst.disc., " +
			"odd.disc. SRV 0 65535 4 0a000104.addr.disc., odd.disc. SRV 0 65535 5 0a000105.addr.disc., odd.disc. SRV 0 65535 7 0a000107.addr.disc. |  | " +
			"0a000005.addr.disc. A 10.0.0.5, 0a000102.addr.disc. A 10.0.1.2, 0a000104.addr.disc. A 10.0.1.4, 0a000105.addr.disc. A 10.0.1.5, " +
			"0a000107.addr.disc. A 10.0.1.7, One.odd.inst.disc. A 10.0.1.3"},
		{"un_der.disc. SRV", "NOERROR | un_der.disc. SRV 0 65535 1 0a000005.addr.disc. |  | 0a000005.addr.disc. A 10.0.0.5"},

		// Addresses.
		{"0a000005.addr.disc. A", "NOERROR | 0a000005.addr.disc. A 10.0.0.5"},
		{"0A00FFfe.addr.disc. A", "NOERROR | 0A00FFfe.addr.disc. A 10.0.255.254"},
		{"0a000005.addr.disc. AAAA", noData},
		{"0a000005.addr.disc. ANY", `NOERROR | 0a000005.addr.disc. HINFO "RFC8482" ""`},
		{"20010db8000000000000000000000007.addr.disc. AAAA", "NOERROR | 20010db8000000000000000000000007.addr.disc. AAAA 2001:db8::7"},
		{"0a0000.addr.disc. A", none},
		{"t.addr.disc. A", "NOERROR | t.addr.disc. A 10.0.0.5"},

		// Nodes.
		{"host-1.node.disc. A", "NOERROR | host-1.node.disc. A 10.0.0.1"},
		{"host-1.node.disc. AAAA", "NOERROR | host-1.node.disc. AAAA 2001:db8::1"},
		{"host-2.example.net.node.disc. A", "NOERROR | host-2.example.net.node.disc. A 10.0.0.2"},
		{"host-1.node.disc. SRV", noData},
		{"host-1.node.disc. ANY", `NOERROR | host-1.node.disc. HINFO "RFC8482" ""`},
		{"named.node.disc. A", "NOERROR | named.node.disc. CNAME named.example.com."},
		{"host-9.node.disc. A", none},

		// Empty non-terminals.
		{"svc.disc. A", noData},
		{"inst.disc. A", noData},
		{"node.disc. A", noData},
		{"_tcp.svc.disc. SRV", noData},
		{"_udp.disc. SRV", noData},
		{"_dns-sd._udp.svc.disc. PTR", noData},
		{"_tcp.web.svc.disc. SRV", noData},
		{"_tcp.nothing.svc.disc. SRV", none},
		{"web.inst.disc. A", noData},
		{"b.odd.inst.disc. A", noData},
		{"nothing.inst.disc. A", none},
		{"example.net.node.disc. A", noData},
		{"ample.net.node.disc. A", none},
		{"svc.svc.disc. A", none},
		{"node.svc.disc. A", none},

		// The domain.
		{"disc. SOA", "NOERROR | disc. SOA 7f000001.addr.disc. hostmaster.disc. 50 3600 600 86400 1"},
		{"disc. NS", "NOERROR | disc. NS 7f000001.addr.disc. |  | 7f000001.addr.disc. A 127.0.0.1"},
		{"disc. ANY", `NOERROR | disc. HINFO "RFC8482" ""`},
		{"disc. A", noData},

		// Browsing.
		{"_services._dns-sd._udp.svc.disc. PTR", "NOERROR | " + browsed("addr", "db", "ill", "mixed", "odd", "spare", "txt", "un_der", "web")},
		{"_services._dns-sd._udp.svc.disc. SRV", noData},
		{"_services._dns-sd._udp.svc.disc. ANY", `NOERROR | _services._dns-sd._udp.svc.disc. HINFO "RFC8482" ""`},
		{"_db._tcp.svc.disc. PTR", `NOERROR | _db._tcp.svc.disc. PTR main._db._tcp.svc.disc. |  | ` +
			`main._db._tcp.svc.disc. SRV 0 65535 5432 db.example.com., main._db._tcp.svc.disc. TXT ""`},
		{"_grpc._tcp.web.svc.disc. PTR", `NOERROR | _grpc._tcp.web.svc.disc. PTR web-1._grpc._tcp.web.svc.disc. |  | ` +
			`web-1._grpc._tcp.web.svc.disc. SRV 0 65535 90 web-1.web.inst.disc., web-1._grpc._tcp.web.svc.disc. TXT "a=1" "b=2", web-1.web.inst.disc. A 10.0.0.5`},
		{"_odd._tcp.svc.disc. PTR", `NOERROR | _odd._tcp.svc.disc. PTR One._odd._tcp.svc.disc., _odd._tcp.svc.disc. PTR a\.b._odd._tcp.svc.disc., ` +
			`_odd._tcp.svc.disc. PTR c:d._odd._tcp.svc.disc. |  | 0a000005.addr.disc. A 10.0.0.5, 0a000102.addr.disc. A 10.0.1.2, ` +
			`One._odd._tcp.svc.disc. SRV 0 65535 3 One.odd.inst.disc., One._odd._tcp.svc.disc. TXT "", One.odd.inst.disc. A 10.0.1.3, ` +
			`a\.b._odd._tcp.svc.disc. SRV 0 65535 1 0a000005.addr.disc., a\.b._odd._tcp.svc.disc. TXT "", ` +
			`c:d._odd._tcp.svc.disc. SRV 0 65535 2 0a000102.addr.disc., c:d._odd._tcp.svc.disc. TXT ""`},
		{`a\.b._odd._tcp.svc.disc. SRV`, `NOERROR | a\.b._odd._tcp.svc.disc. SRV 0 65535 1 0a000005.addr.disc. |  | 0a000005.addr.disc. A 10.0.0.5`},
		{"a.b._odd._tcp.svc.disc. SRV", none},
		{"web-1._web._tcp.svc.disc. TXT", `NOERROR | web-1._web._tcp.svc.disc. TXT "a=1" "b=2"`},
		{"web-2._web._tcp.svc.disc. TXT", `NOERROR | web-2._web._tcp.svc.disc. TXT ""`},
		{"web-1._grpc._tcp.web.svc.disc. SRV", "NOERROR | web-1._grpc._tcp.web.svc.disc. SRV 0 65535 90 web-1.web.inst.disc. |  | web-1.web.inst.disc. A 10.0.0.5"},
		{"web-9._web._tcp.svc.disc. SRV", none},
		{"web-1._web._tcp.svc.disc. PTR", noData},
		{"sick._web._tcp.svc.disc. SRV", noData},
		{"_services._web._tcp.svc.disc. PTR", none},

		// Reverse.
		{"1.0.0.10.in-addr.arpa. PTR", "NOERROR | 1.0.0.10.in-addr.arpa. PTR host-1.node.disc."},
		{"2.0.0.10.in-addr.arpa. PTR", "NOERROR | 2.0.0.10.in-addr.arpa. PTR host-2.example.net.node.disc."},
		{"6.0.0.10.in-addr.arpa. PTR", "NOERROR | 6.0.0.10.in-addr.arpa. PTR web-2.web.inst.disc."},
		{"8.0.0.10.IN-ADDR.arpa. PTR", "NOERROR | 8.0.0.10.IN-ADDR.arpa. PTR sick.web.inst.disc."},
		{"7.1.0.10.in-addr.arpa. PTR", "NOERROR | 7.1.0.10.in-addr.arpa. PTR 0a000107.addr.disc."},
		{"7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR",
			"NOERROR | 7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR web-3.web.inst.disc."},
		{"6.0.0.10.in-addr.arpa. A", "NOERROR |  | 6.0.0.10.in-addr.arpa. SOA 7f000001.addr.disc. hostmaster.disc. 50 3600 600 86400 1"},
		{"6.0.0.10.in-addr.arpa. SOA", "NOERROR | 6.0.0.10.in-addr.arpa. SOA 7f000001.addr.disc. hostmaster.disc. 50 3600 600 86400 1"},
		{"6.0.0.10.in-addr.arpa. ANY", `NOERROR | 6.0.0.10.in-addr.arpa. HINFO "RFC8482" ""`},
		{"9.0.0.10.in-addr.arpa. PTR", no}, // down
		{"99.0.0.10.in-addr.arpa. PTR", no},
		{"0.0.10.in-addr.arpa. PTR", no},
		{"06.0.0.10.in-addr.arpa. PTR", no},
		{"in-addr.arpa. SOA", no},
		{"arpa. SOA", no},
		{":.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR", no},

		// Outside of the domain.
		{"example.com. A", no},
		{". NS", no},
		{"xdisc. A", no},
		{"disc.example. A", no},
		{long[:63] + ".disc. A", none},
		{"disc. AXFR", no},
		{"disc. IXFR", no},
		{"web.disc. TSIG", no},
	}
	f := testCatalog(t)
	r := responder(t, f, Options{})
	for _, tt := range tests {
		t.Run(tt.question, func(t *testing.T) {
			name, qtype, _ := strings.Cut(tt.question, " ")
			number, ok := parseType(strings.TrimPrefix(qtype, "TYPE"))
			if !ok {
				t.Fatalf("type %s", qtype)
			}
			for range 2 { // made, then cached
				if got := show(exchange(t, r, newQuery(name, number), wholeSize)); got != tt.want {
					t.Errorf("%s:\ngot  %s\nwant %s", tt.question, got, tt.want)
				}
			}
		})
	}
}

func browsed(services ...string) string {
	var lines []string
	for _, s := range services {
		lines = append(lines, "_services._dns-sd._udp.svc.disc. PTR _"+s+"._tcp.svc.disc.")
	}
	return strings.Join(lines, ", ")
}

// TestListedIsResolvable asks for each name in an answer, down to the addresses.
func TestListedIsResolvable(t *testing.T) {
	r := responder(t, testCatalog(t), Options{})
	next := []string{"_services._dns-sd._udp.svc.disc. PTR", "disc. NS", "disc. SOA", "5.0.0.10.in-addr.arpa. PTR"}
	addresses := 0
	for seen := map[string]bool{}; len(next) > 0; next = next[1:] {
		if seen[next[0]] {
			continue
		}
		seen[next[0]] = true
		name, qtype, _ := strings.Cut(next[0], " ")
		m := exchange(t, r, newQuery(name, dns.StringToType[qtype]), wholeSize)
		isService := strings.HasPrefix(name, "_") && !strings.HasPrefix(name, "_services") // may have no instance
		if m.Rcode != dns.RcodeSuccess || len(m.Answer) == 0 && qtype != "A" && qtype != "AAAA" && !isService {
			t.Errorf("%s: %s", next[0], show(m))
		}
		for _, rr := range m.Answer {
			switch rr := rr.(type) {
			case *dns.PTR:
				switch {
				case strings.HasPrefix(rr.Ptr, "_"):
					next = append(next, rr.Ptr+" PTR", rr.Ptr+" SRV")
				case strings.Contains(rr.Ptr, "._tcp."):
					next = append(next, rr.Ptr+" SRV", rr.Ptr+" TXT")
				default:
					next = append(next, rr.Ptr+" A")
				}
			case *dns.SRV:
				if dns.IsSubDomain("disc.", rr.Target) {
					next = append(next, rr.Target+" A", rr.Target+" AAAA")
				}
			case *dns.NS:
				next = append(next, rr.Ns+" A")
			case *dns.A, *dns.AAAA:
				addresses++
			}
		}
	}
	if addresses < 10 {
		t.Errorf("only %d addresses were found", addresses)
	}
}

func TestPreference(t *testing.T) {
	f := testCatalog(t)
	web, _ := f.view.Snapshot.Service("web")
	e, _ := web.Entry("web-3")
	e.Suspect = true
	r := responder(t, f, Options{PreferZone: "a"})
	m := exchange(t, r, newQuery("web.disc.", dns.TypeSRV), wholeSize)
	var order []string
	for _, rr := range m.Answer {
		order = append(order, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	const want = "0 65535 80 web-1.web.inst.disc.; 1 9362 81 web-2.web.inst.disc.; 1 9362 82 web-3.web.inst.disc."
	if got := strings.Join(order, "; "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestPanicThreshold(t *testing.T) {
	r := responder(t, testCatalog(t), Options{Panic: 0.5})
	want := "NOERROR | ill.disc. SRV 0 65535 1 i1.ill.inst.disc. |  | i1.ill.inst.disc. A 10.0.0.5"
	if got := show(exchange(t, r, newQuery("ill.disc.", dns.TypeSRV), wholeSize)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestOtherDomain(t *testing.T) {
	r := responder(t, testCatalog(t), Options{Domain: "SD.Example.com", TTL: 5 * time.Second, Nameserver: netip.MustParseAddr("2001:db8::53")})
	tests := []struct{ name, want string }{
		{"spare.sd.example.com.", "NOERROR | spare.sd.example.com. 5 IN A 10.0.0.5"},
		{"spare.disc.", "REFUSED not-aa"},
		{"example.com.", "REFUSED not-aa"},
		{"no.sd.example.com.", "NXDOMAIN |  | sd.example.com. 5 IN SOA 20010db8000000000000000000000053.addr.sd.example.com. hostmaster.sd.example.com. 50 3600 600 86400 5"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := show(exchange(t, r, newQuery(tt.name, dns.TypeA), wholeSize)); got != tt.want {
				t.Errorf("%s:\ngot  %s\nwant %s", tt.name, got, tt.want)
			}
		})
	}
}

func TestWithoutView(t *testing.T) {
	f := &fakeCatalog{err: discovery.Errorf(discovery.ErrUnavailable, "not yet")}
	r := responder(t, f, Options{})
	for name, want := range map[string]string{
		"web.disc.": "SERVFAIL not-aa", "disc.": "SERVFAIL not-aa", "5.0.0.10.in-addr.arpa.": "SERVFAIL not-aa", "example.com.": "REFUSED not-aa",
	} {
		t.Run(name, func(t *testing.T) {
			if got := show(exchange(t, r, newQuery(name, dns.TypeA), 0)); got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		})
	}
	m := exchange(t, r, newQuery("web.disc.", dns.TypeA).SetEdns0(1232, false), 0)
	if got := m.IsEdns0().String(); !strings.Contains(got, "Not Ready") {
		t.Errorf("OPT is %s", got)
	}
}

func TestStaleView(t *testing.T) {
	f := testCatalog(t)
	f.view.Stale = true
	r := responder(t, f, Options{})
	m := exchange(t, r, newQuery("spare.disc.", dns.TypeA).SetEdns0(1232, false), 0)
	if got := m.IsEdns0().String(); !strings.Contains(got, "Stale Answer") || len(m.Answer) != 1 {
		t.Errorf("OPT is %s, answer %v", got, m.Answer)
	}
}

func TestOptionsThatCannotBe(t *testing.T) {
	for _, o := range []Options{
		{Domain: "."}, {Domain: "a..b"}, {Domain: strings.Repeat("abcdefgh.", 24)}, {TTL: -time.Second}, {TTL: 25 * time.Hour}, {Panic: 2},
	} {
		if _, err := New(testCatalog(t), o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

// growingCatalog is a catalog that gets what it is asked for, by itself, as soon as it is asked.
type growingCatalog struct {
	fakeCatalog
	grow func()
}

func (g *growingCatalog) Has(...discovery.Scope) bool {
	g.grow()
	return true
}

// A service that comes into a partial view while a query is answered is not answered as one that
// does not exist.
func TestServiceComesIntoThePartialView(t *testing.T) {
	g := &growingCatalog{fakeCatalog: fakeCatalog{view: view.View{Snapshot: view.EmptySnapshot(), Partial: true}}}
	g.grow = sync.OnceFunc(func() { g.apply(t, 2, put("web/instances/web-1", "")) })
	r := responder(t, g, Options{})
	if m := exchange(t, r, newQuery("web.disc.", dns.TypeA), 0); m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 {
		t.Errorf("answered with %s", show(m))
	}
}
