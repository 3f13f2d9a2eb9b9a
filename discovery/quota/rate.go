package quota

import (
	"context"
	"time"

	"golang.org/x/time/rate"

	"disc/discovery"
)

const (
	// maxWait is how long a write waits for its turn.
	maxWait = time.Second
	// minBurst is the number of writes that can be made at once whatever the rate is: the
	// operations of the largest write.
	minBurst = 64
)

// Rate bounds the writes of one agent: a token bucket, which holds the writes of a second. A
// nil Rate has no bound. It is safe for concurrent use.
type Rate struct {
	perSecond int
	bucket    *rate.Limiter
}

// NewRate returns a bound of writes a second; nil for 0.
func NewRate(perSecond int) *Rate {
	if perSecond == 0 {
		return nil
	}
	return &Rate{perSecond, rate.NewLimiter(rate.Limit(perSecond), max(perSecond, minBurst))}
}

// Take takes n writes, 1 to 64. Where the bucket is empty, it waits for up to a second, in the
// order of the calls: so a client that writes one key after the other is slowed down and sees
// no error. The error is a [*discovery.BusyError], or that of ctx.
func (r *Rate) Take(ctx context.Context, n int) error {
	if r == nil {
		return nil
	}
	taken := r.bucket.ReserveN(time.Now(), n)
	delay := taken.Delay()
	if delay > maxWait {
		taken.Cancel()
		return &discovery.BusyError{PerSecond: r.perSecond, RetryAfter: delay}
	}
	if delay == 0 {
		return nil
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		taken.Cancel()
		return ctx.Err()
	}
}
