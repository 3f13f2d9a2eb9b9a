package agent

import "time"

// SetTimeouts sets how long the agent waits for etcd: with a caller for its registration, and
// when it stops. Call it before Run.
func (a *Agent) SetTimeouts(settle, leave time.Duration) {
	a.registrar.settle, a.leaveTimeout = settle, leave
}
