package registry

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"disc/discovery/telemetry"
)

// metrics are a registry's collectors.
type metrics struct {
	instances *prometheus.GaugeVec
	writes    prometheus.Counter
	loads     prometheus.Counter
	repairs   prometheus.Counter
	conflicts prometheus.Counter
	failures  prometheus.Counter
}

// newMetrics makes the collectors and registers them with r, unless r is nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "disc_registry_" + name, Help: help})
	}
	m := &metrics{
		instances: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "disc_registry_instances", Help: "Instances that this agent registers, by phase."}, []string{"phase"}),
		writes:    counter("writes_total", "Records written to etcd."),
		loads:     counter("loads_total", "Load reports written to etcd, or removed because they were not repeated."),
		repairs:   counter("repairs_total", "Records written again because somebody removed or altered them."),
		conflicts: counter("conflicts_total", "Times that an instance was found to be registered by another agent."),
		failures:  counter("failures_total", "Failed attempts to reconcile etcd with the registrations of this agent."),
	}
	if err := telemetry.Register(r, m.instances, m.writes, m.loads, m.repairs, m.conflicts, m.failures); err != nil {
		return nil, fmt.Errorf("register metrics of the registry: %w", err)
	}
	for _, p := range []Phase{PhasePending, PhaseWritten, PhaseConflict, PhaseLeaving} {
		m.instances.WithLabelValues(string(p)) // 0, and not absent
	}
	return m, nil
}

// count counts an instance in its phase, and no more in the one before; "": in none.
func (m *metrics) count(d *desired, now Phase) {
	if d.counted == now {
		return
	}
	if d.counted != "" {
		m.instances.WithLabelValues(string(d.counted)).Dec()
	}
	if now != "" {
		m.instances.WithLabelValues(string(now)).Inc()
	}
	d.counted = now
}
