package lease

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"disc/discovery/telemetry"
)

// metrics are the collectors of a session.
type metrics struct {
	granted  prometheus.Counter
	lost     prometheus.Counter
	failures *prometheus.CounterVec
	held     prometheus.Gauge
}

// newMetrics returns the collectors, registered with r unless r is nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		granted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "disc_session_leases_granted_total", Help: "Leases that etcd granted to the session."}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "disc_session_leases_lost_total", Help: "Leases that etcd no longer knew at a renewal."}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "disc_session_failures_total", Help: "Calls for the session's lease that failed or were not answered in time."}, []string{"call"}),
		held: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "disc_session_held", Help: "1 while the session has a lease."}),
	}
	if err := telemetry.Register(r, m.granted, m.lost, m.failures, m.held); err != nil {
		return nil, fmt.Errorf("session metrics: %w", err)
	}
	return m, nil
}

func boolGauge(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
