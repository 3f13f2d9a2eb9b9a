package check

import "time"

// allowance lets two things happen at once and then one in each period.
type allowance struct {
	period time.Duration
	paid   time.Time // when the last of what happened has been paid for
}

// wait returns how long it is until n (1 or 2) things may happen; 0: now.
func (a *allowance) wait(now time.Time, n int) time.Duration {
	debt := max(0, a.paid.Sub(now))
	return max(0, debt-time.Duration(2-n)*a.period)
}

// spend notes that a thing happened.
func (a *allowance) spend(now time.Time) {
	if a.paid.Before(now) {
		a.paid = now
	}
	a.paid = a.paid.Add(a.period)
}
