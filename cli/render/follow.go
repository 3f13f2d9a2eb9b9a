package render

import (
	"context"
	"time"
)

// Quiescence is how long changes are awaited together: after one, until none has come
// for Least, but no longer than Most.
type Quiescence struct{ Least, Most time.Duration }

// Settle returns when changes have come to rest after one, or ctx ends, with its error.
// changed brings a value for each change.
func (q Quiescence) Settle(ctx context.Context, changed <-chan struct{}) error {
	quiet, most := time.NewTimer(q.Least), time.NewTimer(q.Most)
	defer quiet.Stop()
	defer most.Stop()
	for {
		select {
		case <-changed:
			quiet.Reset(q.Least)
		case <-quiet.C:
			return nil
		case <-most.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
