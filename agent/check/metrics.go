package check

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the collectors of a scheduler.
type metrics struct {
	runs     *prometheus.CounterVec   // by type and status of the result
	duration *prometheus.HistogramVec // seconds, by type
	running  prometheus.Gauge
}

// newMetrics makes the collectors and registers them, if registerer is not nil.
func newMetrics(registerer prometheus.Registerer) *metrics {
	auto := promauto.With(registerer)
	return &metrics{
		runs: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "disc_check_runs_total",
			Help: "Results of checks, by type and status.",
		}, []string{"type", "status"}),
		duration: auto.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "disc_check_duration_seconds",
			Help:    "How long checks took, by type.",
			Buckets: []float64{.001, .005, .025, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"type"}),
		running: auto.NewGauge(prometheus.GaugeOpts{
			Name: "disc_check_running",
			Help: "Checks that are being run now.",
		}),
	}
}
