package limit

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"disc/discovery/reflector"
	"disc/discovery/telemetry"
)

// metrics are the collectors of rate limits.
type metrics struct {
	granted, denied, unavailable prometheus.Counter // takes
	bought, lost, failed         prometheus.Counter // purchases
	limits                       prometheus.Gauge
	reflector                    *reflector.Metrics
}

// newMetrics makes the collectors and registers them with r, unless that is nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	takes := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "disc_limit_takes_total", Help: "Takes of rate limits, by what became of them."}, []string{"result"})
	purchases := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "disc_limit_purchases_total", Help: "Attempts to buy of a ledger, by what became of them."}, []string{"result"})
	m := &metrics{
		granted: takes.WithLabelValues("granted"), denied: takes.WithLabelValues("denied"), unavailable: takes.WithLabelValues("unavailable"),
		bought: purchases.WithLabelValues("bought"), lost: purchases.WithLabelValues("lost"), failed: purchases.WithLabelValues("failed"),
		limits: prometheus.NewGauge(prometheus.GaugeOpts{Name: "disc_limits_used", Help: "Rate limits that are watched, since they are used here."}),
	}
	if err := telemetry.Register(r, takes, purchases, m.limits); err != nil {
		return nil, fmt.Errorf("limits metrics: %w", err)
	}
	var err error
	m.reflector, err = reflector.NewMetrics(r, "limit")
	return m, err
}

// count counts a take.
func (m *metrics) count(isGranted, isUnavailable bool) {
	switch {
	case isUnavailable:
		m.unavailable.Inc()
	case isGranted:
		m.granted.Inc()
	default:
		m.denied.Inc()
	}
}
