package limit

import (
	"github.com/prometheus/client_golang/prometheus"

	"disc/discovery/reflector"
)

// Metrics are the collectors of rate limits.
type Metrics struct {
	granted, denied, unavailable prometheus.Counter // takes
	bought, lost, failed         prometheus.Counter // purchases
	limits                       prometheus.Gauge
	follow                       *reflector.Metrics
}

// NewMetrics returns collectors that are registered with r, unless that is nil.
func NewMetrics(r prometheus.Registerer) *Metrics {
	takes := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "disc_limit_takes_total", Help: "Takes of rate limits, by what became of them."}, []string{"result"})
	purchases := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "disc_limit_purchases_total", Help: "Attempts to buy of a ledger, by what became of them."}, []string{"result"})
	m := &Metrics{
		granted: takes.WithLabelValues("granted"), denied: takes.WithLabelValues("denied"), unavailable: takes.WithLabelValues("unavailable"),
		bought: purchases.WithLabelValues("bought"), lost: purchases.WithLabelValues("lost"), failed: purchases.WithLabelValues("failed"),
		limits: prometheus.NewGauge(prometheus.GaugeOpts{Name: "disc_limits_used", Help: "Rate limits that are watched, since they are used here."}),
		follow: reflector.NewMetrics(r, "limit"),
	}
	if r != nil {
		r.MustRegister(takes, purchases, m.limits)
	}
	return m
}

// count counts a take.
func (m *Metrics) count(isGranted, isUnavailable bool) {
	switch {
	case isUnavailable:
		m.unavailable.Inc()
	case isGranted:
		m.granted.Inc()
	default:
		m.denied.Inc()
	}
}
