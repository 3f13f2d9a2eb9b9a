package dns

import (
	"strings"
	"testing"

	"github.com/miekg/dns"

	"disc/discovery/view"
)

func TestReverseAddress(t *testing.T) {
	tests := []struct{ name, want string }{
		{"1.2.3.4.in-addr.arpa", "4.3.2.1"}, {"255.0.0.0.in-addr.arpa", "0.0.0.255"},
		{"256.0.0.0.in-addr.arpa", ""}, {"2.3.4.in-addr.arpa", ""}, {"0.1.2.3.4.in-addr.arpa", ""}, {"1.2.3.4.in-addr.example", ""},
		{"1.2.3.::4.in-addr.arpa", ""}, {"1%a.2.3.4.in-addr.arpa", ""}, {"arpa", ""}, {"ip6.arpa", ""},
		{strings.Repeat("0.", 31) + "1.ip6.arpa", "1000::"}, {strings.Repeat("0.", 31) + "g.ip6.arpa", ""}, {strings.Repeat("0.", 32) + "1.ip6.arpa", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ip, ok := reverseAddress(strings.Split(tt.name, "."))
			if ok != (tt.want != "") || ok && ip.String() != tt.want {
				t.Errorf("%s: %v, %t, want %q", tt.name, ip, ok, tt.want)
			}
		})
	}
}

func TestTexts(t *testing.T) {
	r := responder(t, testCatalog(t), Options{})
	m := exchange(t, r, newQuery("txt.disc.", dns.TypeTXT), wholeSize)
	b := packet(t, m)
	for _, want := range []string{"\x08` s` =\xc3\xa9", "\x0ak`=y=a\\b=c", "\x05a``c="} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%q is not in %q", want, b)
		}
	}
	if strings.Contains(string(b), "long") {
		t.Error("a string of more than 255 bytes is there")
	}
	if got := quoteKey(" "); got != "` " {
		t.Errorf("a key of a space is %q", got)
	}
}

// TestNamesThatAreTooLong has ids, services and hosts that are too long for a name in the
// domain, or for any name.
func TestNamesThatAreTooLong(t *testing.T) {
	x := strings.Repeat("x", 63)
	domain := x[:60] + "." + x[:60] + "." + x[:60] + "."
	f := &fakeCatalog{view: view.View{Snapshot: view.EmptySnapshot()}}
	f.apply(t, 1,
		put("web/instances/"+x, `"port":1`), put("web/instances/w2", `"port":2`),
		put(x+"/instances/a", `"port":3`), put("host/instances/h", `"port":4,"address":"`+x+`x.example.com"`),
	)
	r := responder(t, f, Options{Domain: domain})
	ask := func(name string, qtype uint16) string {
		return strings.ReplaceAll(show(exchange(t, r, newQuery(name+domain, qtype), wholeSize)), domain, "")
	}
	tests := []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"web.", dns.TypeSRV, "NOERROR | web. SRV 0 65535 1 0a000005.addr., web. SRV 0 65535 2 w2.web.inst. |  | 0a000005.addr. A 10.0.0.5, w2.web.inst. A 10.0.0.5"},
		{"_web._tcp.svc.", dns.TypePTR, `NOERROR | _web._tcp.svc. PTR w2._web._tcp.svc. |  | w2._web._tcp.svc. SRV 0 65535 2 w2.web.inst., w2._web._tcp.svc. TXT "", w2.web.inst. A 10.0.0.5`},
		{"_services._dns-sd._udp.svc.", dns.TypePTR, "NOERROR | _services._dns-sd._udp.svc. PTR _host._tcp.svc., _services._dns-sd._udp.svc. PTR _web._tcp.svc."},
		{x + ".", dns.TypeSRV, "NOERROR | " + x + ". SRV 0 65535 3 a." + x + ".inst. |  | a." + x + ".inst. A 10.0.0.5"}, // 255 bytes
		{"host.", dns.TypeA, "NOERROR |  |  SOA 7f000001.addr. hostmaster. 1 3600 600 86400 1"},
		{"host.", dns.TypeSRV, "NOERROR |  |  SOA 7f000001.addr. hostmaster. 1 3600 600 86400 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name+" "+dns.TypeToString[tt.qtype], func(t *testing.T) {
			if got := ask(tt.name, tt.qtype); got != tt.want {
				t.Errorf("%s %s:\ngot  %s\nwant %s", tt.name, dns.TypeToString[tt.qtype], got, tt.want)
			}
		})
	}
}

// TestOncePerRecord has several instances that share one record.
func TestOncePerRecord(t *testing.T) {
	f := &fakeCatalog{view: view.View{Snapshot: view.EmptySnapshot()}}
	f.apply(t, 1,
		put("web/instances/a", `"port":1`), put("web/instances/b", `"port":2`), put("web/instances/b:2", `"port":2`), put("web/instances/b:3", `"port":2`),
		put("db/static/1", `"address":"db.example.com","port":5`), put("db/static/2", `"address":"db.example.com","port":5`),
	)
	r := responder(t, f, Options{})
	for question, want := range map[string]string{
		"web.disc. A": "NOERROR | web.disc. A 10.0.0.5",
		"web.disc. SRV": "NOERROR | web.disc. SRV 0 65535 1 a.web.inst.disc., web.disc. SRV 0 65535 2 0a000005.addr.disc., web.disc. SRV 0 65535 2 b.web.inst.disc. |  | " +
			"0a000005.addr.disc. A 10.0.0.5, a.web.inst.disc. A 10.0.0.5, b.web.inst.disc. A 10.0.0.5",
		"db.disc. SRV":  "NOERROR | db.disc. SRV 0 65535 5 db.example.com.",
		"db.disc. AAAA": "NOERROR | db.disc. CNAME db.example.com.",
		"5.0.0.10.in-addr.arpa. PTR": "NOERROR | 5.0.0.10.in-addr.arpa. PTR 0a000005.addr.disc., 5.0.0.10.in-addr.arpa. PTR a.web.inst.disc., " +
			"5.0.0.10.in-addr.arpa. PTR b.web.inst.disc.",
	} {
		t.Run(question, func(t *testing.T) {
			name, qtype, _ := strings.Cut(question, " ")
			if got := show(exchange(t, r, newQuery(name, dns.StringToType[qtype]), wholeSize)); got != want {
				t.Errorf("%s:\ngot  %s\nwant %s", question, got, want)
			}
		})
	}
}
