package limit

import (
	"time"

	"disc/discovery"
)

// The bounds of a horizon, which is how long a token may be good.
const (
	shortestHorizon = 25 * time.Millisecond // long enough for etcd to answer a purchase
	usualHorizon    = 250 * time.Millisecond
	slowHorizon     = 500 * time.Millisecond // half of maxWait: the last token of a burst is sold a horizon after the others
	longestHorizon  = time.Second
)

// parameters are a limit's rules for purchases. Every agent derives the same ones from the
// same policy.
type parameters struct {
	burst    float64       // the most tokens that a purchase may have
	capacity float64       // the largest debt after a purchase that adds to a debt, in tokens; may be below 0
	rate     float64       // at which the debt drains, in tokens a second
	horizon  time.Duration // how long a token is good, from the sending of the purchase
}

// parametersOf splits a limit's burst between the tokens that may be sold at once and those
// that are sold and not used yet. A longer horizon leaves less to be sold while tokens are
// in use; a shorter one means more and smaller purchases. Above 250 tokens a second the
// horizon grows with the rate, which keeps purchases to a few dozen a second. Below a token
// in 2.5 s it is a tenth of the time of a token, up to slowHorizon, for an etcd that answers
// slowly. Where the burst is too small to split, it is a tenth of the time of a token.
func parametersOf(l discovery.Limit) parameters {
	rate, burst := l.PerSecond(), float64(l.Burst)
	horizon := max(clamp(rate/1000, usualHorizon, longestHorizon), min(seconds(0.1/rate), slowHorizon))
	horizon = min(horizon, seconds(burst/rate/2))
	if burst < 1+rate*horizon.Seconds() {
		horizon = clamp(0.1/rate, shortestHorizon, longestHorizon)
	}
	horizon = max(horizon, shortestHorizon)
	return parameters{burst, burst - rate*horizon.Seconds(), rate, horizon}
}

func clamp(s float64, least, most time.Duration) time.Duration {
	return max(least, min(seconds(s), most))
}

// seconds returns s seconds as a duration, of at most a year.
func seconds(s float64) time.Duration {
	const year = 365 * 24 * 3600
	return time.Duration(max(-year, min(s, year)) * float64(time.Second))
}
