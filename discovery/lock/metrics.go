package lock

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"disc/discovery/telemetry"
)

// metrics are the collectors of a manager.
type metrics struct {
	held     *prometheus.GaugeVec
	waiting  *prometheus.GaugeVec
	granted  *prometheus.CounterVec
	lost     *prometheus.CounterVec
	calls    *prometheus.CounterVec
	failures prometheus.Counter
	orphans  prometheus.Counter
}

// newMetrics returns the collectors, registered with r unless r is nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	kinds := []string{"kind"}
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "disc_grants_" + name, Help: help}, kinds)
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "disc_grants_" + name, Help: help}, kinds)
	}
	m := &metrics{
		held:    gauge("held", "Locks and claims that callers of this agent hold."),
		waiting: gauge("waiting", "Callers of this agent that wait for a lock or a claim."),
		granted: counter("granted_total", "Locks and claims that this agent granted."),
		lost:    counter("lost_total", "Locks and claims that ended before their holders released them."),
		calls:   counter("transactions_total", "Transactions sent to etcd for locks and claims."),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "disc_grants_failures_total", Help: "Transactions for locks and claims that failed or were not answered in time."}),
		orphans: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "disc_grants_strays_total", Help: "Keys of locks and claims that were removed because they belonged to no grant."}),
	}
	if err := telemetry.Register(r, m.held, m.waiting, m.granted, m.lost, m.calls, m.failures, m.orphans); err != nil {
		return nil, fmt.Errorf("grants metrics: %w", err)
	}
	return m, nil
}
