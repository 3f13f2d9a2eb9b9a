package agent

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"disc/agent/dns"
	"disc/config"
)

// TestDNSProtection looks at what limits a DNS server by default, and by its settings.
func TestDNSProtection(t *testing.T) {
	const auto = config.AutoRateLimit
	for _, test := range []struct {
		name, listen string
		networks     []netip.Prefix
		limit        int

		wantLimit         int
		private, internet bool // whether clients there are answered; no host has an address in 240.0.0.0/4
		warns             bool
	}{
		{"loopback", "127.0.0.1:0", nil, auto, 0, true, true, false},
		{"loopback of IPv6", "[::1]:0", nil, auto, 0, true, true, false},
		{"loopback with settings", "127.0.0.1:0", prefixes("240.0.0.0/24"), 7, 7, false, true, false},
		{"all addresses", "0.0.0.0:0", nil, auto, dnsRateLimit, true, false, true},
		{"all addresses with networks", "0.0.0.0:0", prefixes("240.0.0.0/24"), auto, dnsRateLimit, false, true, false},
		{"all addresses with a limit", "0.0.0.0:0", nil, 7, 7, true, false, true},
		{"all addresses as before", "0.0.0.0:0", prefixes("0.0.0.0/0", "::/0"), 0, 0, true, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log strings.Builder
			s, err := dns.Listen(test.listen, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			protectDNS(s, config.DNS{Networks: test.networks, RateLimit: test.limit}, slog.New(slog.NewTextHandler(&log, nil)))
			if spared := test.limit == auto && test.wantLimit > 0; s.RateLimit != test.wantLimit || s.SparePrivate != spared {
				t.Errorf("the limit is %d, private networks are spared: %v; want %d, %v", s.RateLimit, s.SparePrivate, test.wantLimit, spared)
			}
			for client, want := range map[string]bool{"127.0.0.1": true, "10.9.9.9": test.private, "240.0.0.1": test.internet} {
				if got := s.Networks == nil || s.Networks.Contains(netip.MustParseAddr(client)); got != want {
					t.Errorf("%s is answered: %v, want %v", client, got, want)
				}
			}
			if warns := strings.Contains(log.String(), "dns.networks is not set"); warns != test.warns {
				t.Errorf("it warns: %v, want %v:\n%s", warns, test.warns, log.String())
			}
		})
	}
}

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}
