package limit

import (
	"math"
	"time"
)

// demand measures how many tokens are asked for, on an average of about a second.
type demand struct {
	sum float64       // of the tokens, decaying to 1/e in a second
	at  time.Duration // of sum

	largest   int64 // the largest take of the last second
	largestAt time.Duration
}

// add counts a take of n tokens.
func (d *demand) add(now time.Duration, n int64) {
	d.sum, d.at = d.rate(now)+float64(n), max(now, d.at)
	if n >= d.largestTake(now) {
		d.largest, d.largestAt = n, now
	}
}

// largestTake returns the largest take of the last second, at least 1. A purchase of
// fewer tokens is of no use to such a take: they are void before there are enough.
func (d *demand) largestTake(now time.Duration) int64 {
	if now-d.largestAt > time.Second {
		return 1
	}
	return max(1, d.largest)
}

// rate returns the demand in tokens a second.
func (d *demand) rate(now time.Duration) float64 {
	if passed := now - d.at; passed > 0 {
		return d.sum * math.Exp(-passed.Seconds())
	}
	return d.sum
}

// contenderPeriod is how long an agent that has bought counts as a contender, at least.
const contenderPeriod = 2 * time.Second

// contenders counts the agents that buy from a limit.
type contenders struct {
	recent, previous map[string]bool // purchasers of this period and of the one before
	periodStart      time.Duration
}

// observe counts a purchaser whose sale was seen.
func (c *contenders) observe(now time.Duration, purchaserID string) {
	if c.recent == nil || now-c.periodStart > contenderPeriod {
		if now-c.periodStart > 2*contenderPeriod {
			c.recent = nil
		}
		c.recent, c.previous, c.periodStart = map[string]bool{}, c.recent, now
	}
	c.recent[purchaserID] = true
}

// count returns how many agents buy, at least 1.
func (c *contenders) count() int { return max(1, len(c.recent), len(c.previous)) }
