package dns

import (
	"fmt"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"disc/discovery/telemetry"
)

// metrics are the metrics of a Responder.
type metrics struct {
	queries *prometheus.CounterVec
	latency prometheus.Histogram

	answered map[uint16]prometheus.Counter // NOERROR, by type: saves looking up the labels
	other    prometheus.Counter            // NOERROR, of all other types

	limited            *prometheus.CounterVec
	truncated, foreign prometheus.Counter // of limited
}

// otherType is the label of all types that are not counted by name.
const otherType = "other"

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		queries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "disc_dns_queries_total",
			Help: "Answered DNS queries, over all transports, by type and response code.",
		}, []string{"type", "rcode"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "disc_dns_duration_seconds",
			Help:    "Time to make the answer to a DNS query, without the network.",
			Buckets: prometheus.ExponentialBuckets(1e-6, 4, 9), // to 65 ms
		}),
		limited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "disc_dns_limited_total",
			Help: "DNS queries that were not answered as they were asked, by reason: rate, truncated beyond dns.rate_limit; network, dropped as dns.networks lacks the client.",
		}, []string{"reason"}),
		answered: map[uint16]prometheus.Counter{},
	}
	m.truncated, m.foreign = m.limited.WithLabelValues("rate"), m.limited.WithLabelValues("network")
	success := dns.RcodeToString[dns.RcodeSuccess]
	for _, t := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeTXT, dns.TypePTR, dns.TypeSOA, dns.TypeNS, dns.TypeANY} {
		m.answered[t] = m.queries.WithLabelValues(dns.TypeToString[t], success)
	}
	m.other = m.queries.WithLabelValues(otherType, success)
	if err := telemetry.Register(r, m.queries, m.latency, m.limited); err != nil {
		return nil, fmt.Errorf("dns metrics: %w", err)
	}
	return m, nil
}

func (m *metrics) observe(qtype uint16, rcode int, took time.Duration) {
	m.latency.Observe(took.Seconds())
	counter, known := m.answered[qtype]
	switch {
	case rcode != dns.RcodeSuccess && known:
		m.queries.WithLabelValues(dns.TypeToString[qtype], rcodeName(rcode)).Inc()
	case rcode != dns.RcodeSuccess:
		m.queries.WithLabelValues(otherType, rcodeName(rcode)).Inc()
	case known:
		counter.Inc()
	default:
		m.other.Inc()
	}
}

// rcodeName returns the name of a response code. Code 16 is BADVERS here; the library
// calls it BADSIG.
func rcodeName(rcode int) string {
	if rcode == dns.RcodeBadVers {
		return "BADVERS"
	}
	return dns.RcodeToString[rcode]
}
