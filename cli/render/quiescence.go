package render

import (
	"context"
	"time"
)

// Quiescence collects changes: after a change, it waits until none follows for Min, at most
// for Max.
type Quiescence struct{ Min, Max time.Duration }

// Wait waits after a change for further ones, each a value from changed. It returns an error
// only if ctx ends.
func (q Quiescence) Wait(ctx context.Context, changed <-chan struct{}) error {
	quiet, limit := time.NewTimer(q.Min), time.NewTimer(q.Max)
	defer quiet.Stop()
	defer limit.Stop()
	for {
		select {
		case <-changed:
			quiet.Reset(q.Min)
		case <-quiet.C:
			return nil
		case <-limit.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
