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

// newMetrics makes the collectors and registers them with r, unless r is nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	takes := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "disc_limit_takes_total", Help: "Takes from rate limits, by result."}, []string{"result"})
	purchases := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "disc_limit_purchases_total", Help: "Attempts to buy tokens of a rate limit, by result."}, []string{"result"})
	m := &metrics{
		granted: takes.WithLabelValues("granted"), denied: takes.WithLabelValues("denied"), unavailable: takes.WithLabelValues("unavailable"),
		bought: purchases.WithLabelValues("bought"), lost: purchases.WithLabelValues("lost"), failed: purchases.WithLabelValues("failed"),
		limits: prometheus.NewGauge(prometheus.GaugeOpts{Name: "disc_limits_used", Help: "Rate limits that this agent watches, since it uses them."}),
	}
	if err := telemetry.Register(r, takes, purchases, m.limits); err != nil {
		return nil, fmt.Errorf("register metrics of rate limits: %w", err)
	}
	var err error
	m.reflector, err = reflector.NewMetrics(r, "limit")
	return m, err
}

// countTake counts a take that was decided.
func (m *metrics) countTake(isGranted, isUnavailable bool) {
	switch {
	case isUnavailable:
		m.unavailable.Inc()
	case isGranted:
		m.granted.Inc()
	default:
		m.denied.Inc()
	}
}
