package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

// The bounds of a [Backoff].
const (
	InitialDelay = 100 * time.Millisecond
	MaxDelay     = 5 * time.Second
)

// Backoff spaces the attempts of a call that is repeated for ever: a random time
// below a bound that doubles from 100 ms to 5 s (full jitter). The zero value is
// ready.
type Backoff struct{ failures int }

// Failed counts a failure and reports whether it is one to log: the first and then
// each doubling, so that an outage of hours is a dozen lines.
func (b *Backoff) Failed() bool {
	b.failures++
	return b.failures&(b.failures-1) == 0
}

// Failures returns how many attempts failed in a row.
func (b *Backoff) Failures() int { return b.failures }

// Reset forgets the failures after a success.
func (b *Backoff) Reset() { b.failures = 0 }

// Next returns how long to wait before the next attempt.
func (b *Backoff) Next() time.Duration {
	return rand.N(min(InitialDelay<<min(b.failures, 10), MaxDelay))
}

// Wait waits before the next attempt. It fails only when ctx ends, with its error.
func (b *Backoff) Wait(ctx context.Context) error {
	t := time.NewTimer(b.Next())
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
