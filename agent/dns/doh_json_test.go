package dns

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/miekg/dns"

	"disc/discovery"
)

func TestJSON(t *testing.T) {
	f := testCatalog(t)
	r := responder(t, f, Options{TTL: 3 * time.Second})
	const question = `{"Status":0,"TC":false,"RD":true,"RA":false,"AD":false,"CD":false,"Question":[{"name":"wEb-1.web.inst.disc.","type":`
	tests := []struct {
		name, qtype, want string
		ttl               time.Duration
	}{
		{"wEb-1.web.inst.disc", "", question + `1}],"Answer":[{"name":"wEb-1.web.inst.disc.","type":1,"TTL":3,"data":"10.0.0.5"}]}`, 3 * time.Second},
		{"wEb-1.web.inst.disc.", "a", question + `1}],"Answer":[{"name":"wEb-1.web.inst.disc.","type":1,"TTL":3,"data":"10.0.0.5"}]}`, 3 * time.Second},
		{"wEb-1.web.inst.disc.", "16", question + `16}],"Answer":[{"name":"wEb-1.web.inst.disc.","type":16,"TTL":3,"data":"\"a=1\" \"b=2\""}]}`, 3 * time.Second},
		{"wEb-1.web.inst.disc.", "SRV", question + `33}],"Answer":[{"name":"wEb-1.web.inst.disc.","type":33,"TTL":3,"data":"0 65535 80 web-1.web.inst.disc."}],` +
			`"Additional":[{"name":"wEb-1.web.inst.disc.","type":1,"TTL":3,"data":"10.0.0.5"}]}`, 3 * time.Second},
		{"no.disc", "AAAA", `{"Status":3,"TC":false,"RD":true,"RA":false,"AD":false,"CD":false,"Question":[{"name":"no.disc.","type":28}],` +
			`"Authority":[{"name":"disc.","type":6,"TTL":3,"data":"7f000001.addr.disc. hostmaster.disc. 50 3600 600 86400 3"}]}`, 3 * time.Second},
		{"example.com", "A", `{"Status":5,"TC":false,"RD":true,"RA":false,"AD":false,"CD":false,"Question":[{"name":"example.com.","type":1}]}`, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name+" "+tt.qtype, func(t *testing.T) {
			a, ttl, err := r.JSON(tt.name, tt.qtype, false)
			if err != nil {
				t.Errorf("%s %s: %v", tt.name, tt.qtype, err)
			}
			if b, _ := json.Marshal(a); string(b) != tt.want || ttl != tt.ttl {
				t.Errorf("%s %s:\ngot  %s, %v\nwant %s", tt.name, tt.qtype, b, ttl, tt.want)
			}
		})
	}
	f.view.Stale = true
	if a, _, err := r.JSON("web.disc", "A", true); err != nil || !a.CD || a.Comment != "Stale Answer" {
		t.Errorf("%+v, %v", a, err)
	}
	for _, bad := range [][2]string{{"web.disc", "FOO"}, {"web.disc", "0"}, {"web.disc", "65536"}, {"a..b", "A"}, {"", "None"}} {
		if _, _, err := r.JSON(bad[0], bad[1], false); !errors.Is(err, discovery.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestExchangeTellsItsTime(t *testing.T) {
	f := testCatalog(t)
	r := responder(t, f, Options{TTL: 7 * time.Second})
	ask := func(name string) time.Duration {
		b, ttl, err := r.Exchange(packet(t, newQuery(name, dns.TypeSRV)), wholeSize)
		if m := new(dns.Msg); err != nil || m.Unpack(b) != nil {
			t.Errorf("%s: %x, %v", name, b, err)
		}
		return ttl
	}
	for name, want := range map[string]time.Duration{"web.disc.": 7 * time.Second, "no.disc.": 7 * time.Second, "example.com.": 0} {
		if got := ask(name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	f.err = discovery.Errorf(discovery.ErrUnavailable, "not yet")
	if got := ask("web.disc."); got != 0 {
		t.Errorf("a failure may be cached for %v", got)
	}
}
