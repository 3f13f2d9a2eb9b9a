package limit

import (
	"math"
	"time"
)

// demand is how many tokens are asked for: an average of the last second or so.
type demand struct {
	sum float64 // decays to 1/e in a second
	at  time.Duration

	largest   int64 // take of the last second
	largestAt time.Duration
}

func (d *demand) add(now time.Duration, n int64) {
	d.sum, d.at = d.rate(now)+float64(n), max(now, d.at)
	if n >= d.largestTake(now) {
		d.largest, d.largestAt = n, now
	}
}

// largestTake is how many tokens a single take may want, at least 1: fewer in the hand are of no
// use to it, and would be void before there are as many.
func (d *demand) largestTake(now time.Duration) int64 {
	if now-d.largestAt > time.Second {
		return 1
	}
	return max(1, d.largest)
}

// rate is in tokens a second.
func (d *demand) rate(now time.Duration) float64 {
	if passed := now - d.at; passed > 0 {
		return d.sum * math.Exp(-passed.Seconds())
	}
	return d.sum
}

// contenderPeriod is for how long who has bought counts as a rival, at least.
const contenderPeriod = 2 * time.Second

// contenders counts the agents that buy of a limit.
type contenders struct {
	recent, previous map[string]bool // who bought in this period and in the one before
	periodStart      time.Duration   // of this period
}

func (r *contenders) observe(now time.Duration, buyer string) {
	if r.recent == nil || now-r.periodStart > contenderPeriod {
		if now-r.periodStart > 2*contenderPeriod {
			r.recent = nil
		}
		r.recent, r.previous, r.periodStart = map[string]bool{}, r.recent, now
	}
	r.recent[buyer] = true
}

// count is how many agents buy, at least 1.
func (r *contenders) count() int { return max(1, len(r.recent), len(r.previous)) }
