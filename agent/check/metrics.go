package check

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"disc/discovery/telemetry"
)

// metrics are the collectors of a scheduler.
type metrics struct {
	runs     *prometheus.CounterVec   // by type and status of the result
	duration *prometheus.HistogramVec // seconds, by type
	running  prometheus.Gauge
}

// newMetrics makes the collectors and registers them with r, unless that is nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "disc_check_runs_total",
			Help: "Results of checks, by type and status.",
		}, []string{"type", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "disc_check_duration_seconds",
			Help:    "Duration of check runs in seconds, by type.",
			Buckets: []float64{.001, .005, .025, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"type"}),
		running: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "disc_check_running",
			Help: "Checks that run now.",
		}),
	}
	if err := telemetry.Register(r, m.runs, m.duration, m.running); err != nil {
		return nil, fmt.Errorf("check metrics: %w", err)
	}
	return m, nil
}
