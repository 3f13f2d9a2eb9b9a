package render

import (
	"context"
	"time"
)

// Quiescence is how long changes are awaited together: after one, until none has come
// for Least, but no longer than Most.
type Quiescence struct{ Min, Max time.Duration }

// Wait returns when changes have come to rest after one, or ctx ends, with its error.
// changed brings a value for each change.
func (q Quiescence) Wait(ctx context.Context, changed <-chan struct{}) error {
	quiet, most := time.NewTimer(q.Min), time.NewTimer(q.Max)
	defer quiet.Stop()
	defer most.Stop()
	for {
		select {
		case <-changed:
			quiet.Reset(q.Min)
		case <-quiet.C:
			return nil
		case <-most.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
