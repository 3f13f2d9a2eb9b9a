package dns

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"disc/discovery"
	"disc/discovery/view"
)

// TestNamesInTheDomain has instances whose address is a host name. The answer has the addresses of
// names in the domain, since resolvers do not ask for the target of a CNAME again.
func TestNamesInTheDomain(t *testing.T) {
	const noData = "NOERROR |  | disc. SOA 7f000001.addr.disc. hostmaster.disc. 1 3600 600 86400 1"
	alias := func(service, address string) view.Change {
		return put(service+"/static/a", `"port":1,"address":"`+address+`"`)
	}
	f := &fakeCatalog{view: view.View{Snapshot: view.EmptySnapshot()}}
	changes := []view.Change{
		put("web/instances/w1", `"port":80`), put("web/instances/w2", `"address":"2001:db8::1","port":80,"tags":["v2"]`),
		put("nodes/host-1/a1", `"address":"10.0.0.1"`),
		alias("name", "WEB.disc"), alias("tagged", "v2.web.svc.disc."), alias("one", "w1.web.inst.disc"), alias("node", "host-1.node.disc"),
		alias("addr", "0a000009.addr.disc"), alias("twice", "name.disc"),
		put("mixed/static/a", `"address":"web.disc"`), put("mixed/static/b", `"address":"db.example.com"`), put("mixed/static/c", `"address":"10.0.0.7"`),
		put("both/static/a", `"address":"db.example.com"`), put("both/static/b", `"address":"host-1.node.disc"`),
		put("foreign/static/a", `"address":"none.disc"`), put("foreign/static/b", `"address":"db.example.com"`),
		alias("loop", "loop.disc"), alias("ping", "pong.disc"), alias("pong", "ping.disc"), alias("gone", "none.disc"), alias("apex", "disc"),
	}
	for n := range 40 { // a chain
		changes = append(changes, alias(fmt.Sprintf("chain-%d", n), fmt.Sprintf("chain-%d.disc", n+1)))
	}
	for n := range 100 { // a name that exists among many that do not; many names
		changes = append(changes, put(fmt.Sprintf("dead/static/a%d", n), fmt.Sprintf(`"address":"a%d.disc"`, n)),
			put(fmt.Sprintf("many/static/a%d", n), fmt.Sprintf(`"address":"0a00%04x.addr.disc"`, n)))
	}
	changes = append(changes, put("dead/static/live", `"address":"web.disc"`))
	f.apply(t, 1, append(changes, put("chain-40/instances/a", ""))...)
	r := responder(t, f, Options{})
	for question, want := range map[string]string{
		"name.disc. A":             "NOERROR | name.disc. A 10.0.0.5",
		"name.disc. AAAA":          "NOERROR | name.disc. AAAA 2001:db8::1",
		"name.disc. CNAME":         noData,
		"a.name.inst.disc. A":      "NOERROR | a.name.inst.disc. A 10.0.0.5",
		"tagged.disc. AAAA":        "NOERROR | tagged.disc. AAAA 2001:db8::1",
		"tagged.disc. A":           noData,
		"one.disc. A":              "NOERROR | one.disc. A 10.0.0.5",
		"node.disc. A":             "NOERROR | node.disc. A 10.0.0.1",
		"addr.svc.disc. A":         "NOERROR | addr.svc.disc. A 10.0.0.9",
		"twice.disc. A":            "NOERROR | twice.disc. A 10.0.0.5",
		"mixed.disc. A":            "NOERROR | mixed.disc. A 10.0.0.5, mixed.disc. A 10.0.0.7",
		"both.disc. A":             "NOERROR | both.disc. A 10.0.0.1",
		"foreign.disc. A":          "NOERROR | foreign.disc. CNAME db.example.com.",
		"loop.disc. A":             "NOERROR | loop.disc. CNAME loop.disc.",
		"ping.disc. A":             "NOERROR | ping.disc. CNAME pong.disc.",
		"gone.disc. A":             "NOERROR | gone.disc. CNAME none.disc.",
		"apex.disc. A":             "NOERROR | apex.disc. CNAME disc.",
		"dead.disc. A":             "NOERROR | dead.disc. A 10.0.0.5",
		"many.disc. CNAME":         noData,
		"chain-0.disc. A":          "NOERROR | chain-0.disc. CNAME chain-17.disc.",
		"chain-30.disc. A":         "NOERROR | chain-30.disc. A 10.0.0.5",
		"_name._tcp.svc.disc. SRV": "NOERROR | _name._tcp.svc.disc. SRV 0 65535 1 WEB.disc.",
	} {
		t.Run(question, func(t *testing.T) {
			name, qtype, _ := strings.Cut(question, " ")
			if got := show(exchange(t, r, newQuery(name, dns.StringToType[qtype]), wholeSize)); got != want {
				t.Errorf("%s:\ngot  %s\nwant %s", question, got, want)
			}
		})
	}
	// The answer is made anew when the other service changes.
	f.apply(t, 2, put("web/instances/w1", `"port":80,"address":"10.0.0.6"`))
	if got, want := show(exchange(t, r, newQuery("twice.disc.", dns.TypeA), wholeSize)), "NOERROR | twice.disc. A 10.0.0.6"; got != want {
		t.Errorf("after a change: %s, want %s", got, want)
	}
}

// lazyCatalog has, of two services, only those that were asked for.
type lazyCatalog struct {
	*fakeCatalog
	all map[string]view.Change
	has map[string]bool
	t   *testing.T
}

func (l *lazyCatalog) Has(scopes ...discovery.Scope) bool {
	for _, s := range scopes {
		if !l.has[s.Service] {
			return false
		}
	}
	return true
}

func (l *lazyCatalog) Ensure(_ context.Context, scopes ...discovery.Scope) error {
	for _, s := range scopes {
		if change, ok := l.all[s.Service]; ok && !l.has[s.Service] {
			l.apply(l.t, l.view.Snapshot.Revision()+1, change)
		}
		l.has[s.Service] = true
	}
	return nil
}

// TestNamesThatAreNotInTheView follows names of services that the agent does not watch yet.
func TestNamesThatAreNotInTheView(t *testing.T) {
	l := &lazyCatalog{
		fakeCatalog: &fakeCatalog{view: view.View{Snapshot: view.EmptySnapshot(), Partial: true}}, has: map[string]bool{}, t: t,
		all: map[string]view.Change{
			"one": put("one/static/a", `"address":"two.disc"`), "two": put("two/static/a", `"address":"three.disc"`), "three": put("three/static/a", ""),
		},
	}
	r := responder(t, l, Options{})
	for range 2 { // with nothing in the view, then with everything
		b, _, err := r.Exchange(packet(t, newQuery("one.disc.", dns.TypeA)), wholeSize)
		if err != nil {
			t.Fatal(err)
		}
		m := new(dns.Msg)
		if err := m.Unpack(b); err != nil {
			t.Fatal(err)
		}
		if got, want := show(m), "NOERROR | one.disc. A 10.0.0.5"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	l.has["three"] = false // known, but not watched any more
	if _, _, ok := r.respond(nil, nil, packet(t, newQuery("one.disc.", dns.TypeA)), wholeSize); ok {
		t.Error("an answer was made at once of a service that is not watched")
	}
	// Names with nothing but names below them exist, too (RFC 8020).
	for _, name := range []string{"three.inst.disc.", "_tcp.three.svc.disc.", "_udp.three.disc."} {
		clear(l.has)
		l.view.Snapshot = view.EmptySnapshot()
		b, _, err := r.Exchange(packet(t, newQuery(name, dns.TypeA)), wholeSize)
		m := new(dns.Msg)
		if err != nil || m.Unpack(b) != nil || m.Rcode != dns.RcodeSuccess || len(m.Answer) > 0 {
			t.Errorf("%s: %s, %v", name, show(m), err)
		}
	}
	// A name of a node may have nodes below it that the agent does not watch.
	b, _, err := r.Exchange(packet(t, newQuery("example.com.node.disc.", dns.TypeA)), wholeSize)
	m := new(dns.Msg)
	if err != nil || m.Unpack(b) != nil || m.Rcode != dns.RcodeSuccess {
		t.Errorf("the end of a node's name: %s, %v", show(m), err)
	}
}

// TestNamesThatCannotBeRead has an instance with an address beside one whose name etcd does not tell of.
func TestNamesThatCannotBeRead(t *testing.T) {
	f := &fakeCatalog{view: view.View{Snapshot: view.EmptySnapshot(), Partial: true}}
	f.apply(t, 1, put("mixed/static/a", `"address":"gone.disc"`), put("mixed/static/b", ""), put("foreign/static/a", `"address":"gone.disc"`),
		put("foreign/static/b", `"address":"db.example.com"`), put("alone/static/a", `"address":"gone.disc"`))
	r := responder(t, forbidden{f}, Options{})
	for question, want := range map[string]string{
		"mixed.disc.": "NOERROR | mixed.disc. A 10.0.0.5", "foreign.disc.": "NOERROR | foreign.disc. CNAME db.example.com.", "alone.disc.": "SERVFAIL",
	} {
		t.Run(question, func(t *testing.T) {
			b, _, err := r.Exchange(packet(t, newQuery(question, dns.TypeA)), wholeSize)
			m := new(dns.Msg)
			if err != nil || m.Unpack(b) != nil || !strings.HasPrefix(show(m), want) {
				t.Errorf("got %s, want %s; %v", show(m), want, err)
			}
		})
	}
}

// forbidden is a catalog that cannot read what it lacks.
type forbidden struct{ *fakeCatalog }

func (forbidden) Has(scopes ...discovery.Scope) bool {
	for _, s := range scopes {
		if s.Service == "gone" {
			return false
		}
	}
	return true
}

func (forbidden) Ensure(context.Context, ...discovery.Scope) error { return discovery.ErrUnavailable }
