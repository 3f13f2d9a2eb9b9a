// Package retry spaces the attempts of calls that are repeated until they succeed, and tells
// why a call failed after its context ended.
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

// Backoff spaces the attempts of a call that is repeated until it succeeds, however long
// that takes. The delay is random, from 0 to a bound that doubles with each failure from
// InitialDelay to MaxDelay (full jitter). The zero value is ready to use.
type Backoff struct{ failures int }

// Failed counts a failure and reports whether to log it: the 1st, 2nd, 4th, 8th and so on,
// so that an outage of hours takes a dozen lines.
func (b *Backoff) Failed() bool {
	b.failures++
	return b.failures&(b.failures-1) == 0
}

// Failures returns the number of failures since the last Reset.
func (b *Backoff) Failures() int { return b.failures }

// Reset clears the failures after a success.
func (b *Backoff) Reset() { b.failures = 0 }

// Bound returns the bound of the next delay.
func (b *Backoff) Bound() time.Duration { return min(InitialDelay<<min(b.failures, 10), MaxDelay) }

// Next returns a random delay before the next attempt.
func (b *Backoff) Next() time.Duration { return rand.N(b.Bound()) }

// Wait waits for the delay before the next attempt. It returns ctx.Err() if ctx ends
// first, else nil.
func (b *Backoff) Wait(ctx context.Context) error {
	if Sleep(ctx, b.Next()) != nil {
		return ctx.Err()
	}
	return nil
}

// Sleep waits for a time. It returns the cause of ctx's end if that comes first, else nil.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
