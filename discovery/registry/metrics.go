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

// newMetrics makes the collectors and registers them with r, unless that is nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "disc_registry_" + name, Help: help})
	}
	m := &metrics{
		instances: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "disc_registry_instances", Help: "Instances that this agent is to register, by how far they are."}, []string{"phase"}),
		writes:    counter("writes_total", "Records written to etcd."),
		loads:     counter("loads_total", "Load reports written to etcd, or removed from it since they were not repeated."),
		repairs:   counter("repairs_total", "Records written again because somebody had removed or altered them."),
		conflicts: counter("conflicts_total", "Times that another agent's record stood in the way."),
		failures:  counter("failures_total", "Passes over the wanted set that etcd did not take."),
	}
	if err := telemetry.Register(r, m.instances, m.writes, m.loads, m.repairs, m.conflicts, m.failures); err != nil {
		return nil, fmt.Errorf("registry metrics: %w", err)
	}
	return m, nil
}
