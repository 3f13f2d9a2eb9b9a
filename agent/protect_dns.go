package agent

import (
	"log/slog"

	"disc/agent/dns"
	"disc/config"
)

// dnsRateLimit is dns.rate_limit beyond loopback unless it is set, for clients outside the private
// networks: 200 answers of 1,232 bytes are 2 Mbit a second. It is the default of NSD. A private
// network is not limited by default: all containers of a host, or all replicas of a resolver, ask
// from one /24, and not all of them ask again over TCP.
const dnsRateLimit = 200

// protectDNS keeps a DNS server from answering the whole Internet, whose forged queries would make it
// send far more than it gets to a victim (BCP 140). On loopback nothing is limited unless it is set.
func protectDNS(s *dns.Server, c config.DNS, log *slog.Logger) {
	beyond := !s.Addr().Addr().Unmap().IsLoopback()
	switch {
	case len(c.Networks) > 0:
		s.Networks = dns.ListedNetworks(c.Networks)
	case beyond:
		s.Networks = dns.NearNetworks()
		log.Warn("DNS listens beyond loopback, and dns.networks is not set: clients in private networks and in this host's own ones are answered; set it to the networks of your clients",
			"address", s.Addr().String())
	}
	s.RateLimit = c.RateLimit
	if c.RateLimit == config.AutoRateLimit {
		s.RateLimit = 0
		if beyond {
			s.RateLimit, s.SparePrivate = dnsRateLimit, true
		}
	}
}
