package reflector

import "github.com/prometheus/client_golang/prometheus"

// Metrics are a follower's collectors.
type Metrics struct {
	resyncs  prometheus.Counter
	failures prometheus.Counter
}

// NewMetrics returns collectors under a name, as "catalog" in disc_catalog_resyncs_total,
// registered with r unless that is nil.
func NewMetrics(r prometheus.Registerer, name string) *Metrics {
	m := &Metrics{
		resyncs:  prometheus.NewCounter(prometheus.CounterOpts{Name: "disc_" + name + "_resyncs_total", Help: "Comparisons with etcd after the first list."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "disc_" + name + "_failures_total", Help: "Lists and watches that failed."}),
	}
	if r != nil {
		r.MustRegister(m.resyncs, m.failures)
	}
	return m
}
