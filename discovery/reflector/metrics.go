package reflector

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"disc/discovery/telemetry"
)

// Metrics are the collectors of a reflector, or of several that run one after the other.
type Metrics struct {
	resyncs  prometheus.Counter
	failures prometheus.Counter
}

// NewMetrics makes collectors and registers them with r, unless that is nil. The name is
// part of theirs, as "catalog" in disc_catalog_resyncs_total.
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
