package check

import "time"

// rateLimiter lets two things happen at once and then one in each period.
type rateLimiter struct {
	period time.Duration
	tat    time.Time // when the last of what happened has been paid for
}

// delay returns how long it is until n (1 or 2) things may happen; 0: now.
func (a *rateLimiter) delay(now time.Time, n int) time.Duration {
	debt := max(0, a.tat.Sub(now))
	return max(0, debt-time.Duration(2-n)*a.period)
}

// spend notes that a thing happened.
func (a *rateLimiter) spend(now time.Time) {
	if a.tat.Before(now) {
		a.tat = now
	}
	a.tat = a.tat.Add(a.period)
}
