package agent

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"disc/discovery/life"
)

// Metrics returns the registry of the agent's metrics.
func (a *Agent) Metrics() *prometheus.Registry { return a.metrics }

// SetTimeouts sets how long the agent waits for etcd: with a caller for its registration, and
// when it stops. Call it before Run.
func (a *Agent) SetTimeouts(settle, leave time.Duration) {
	a.registrar.settle, a.leaveTimeout = settle, leave
}

// AskLife asks etcd whether it goes on, as Run does at first.
func (a *Agent) AskLife(ctx context.Context) error {
	_, err := a.life.Check(ctx, a.client, life.Identity{})
	return err
}
