package agent

import (
	"context"
	"time"

	"disc/discovery/life"
)

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
