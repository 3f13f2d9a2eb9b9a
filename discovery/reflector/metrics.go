package reflector

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"disc/discovery/telemetry"
)

// Metrics are the collectors of one or more reflectors, one after the other.
type Metrics struct {
	resyncs  prometheus.Counter
	failures prometheus.Counter
}

// NewMetrics returns collectors under a name, such as "catalog" in
// disc_catalog_resyncs_total, and registers them with r, unless that is nil.
func NewMetrics(r prometheus.Registerer, name string) (*Metrics, error) {
	m := &Metrics{
		resyncs:  prometheus.NewCounter(prometheus.CounterOpts{Name: "disc_" + name + "_resyncs_total", Help: "Comparisons with etcd after the first list."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "disc_" + name + "_failures_total", Help: "Lists and watches that failed."}),
	}
	if err := telemetry.Register(r, m.resyncs, m.failures); err != nil {
		return nil, fmt.Errorf("%s metrics: %w", name, err)
	}
	return m, nil
}

func (m *Metrics) resynced() {
	if m != nil {
		m.resyncs.Inc()
	}
}

func (m *Metrics) failed() {
	if m != nil {
		m.failures.Inc()
	}
}
