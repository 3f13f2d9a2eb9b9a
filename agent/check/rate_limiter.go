package check

import "time"

// rateLimiter allows a burst of two events, then one in each period. It is the generic cell
// rate algorithm (ITU-T I.371).
type rateLimiter struct {
	period time.Duration
	tat    time.Time // theoretical arrival time: when the limiter is full again
}

// delay returns the time until n events (1 or 2) are allowed at once; 0: they are now.
func (l *rateLimiter) delay(now time.Time, n int) time.Duration {
	debt := max(0, l.tat.Sub(now))
	return max(0, debt-time.Duration(2-n)*l.period)
}

// spend records one event.
func (l *rateLimiter) spend(now time.Time) {
	if l.tat.Before(now) {
		l.tat = now
	}
	l.tat = l.tat.Add(l.period)
}
