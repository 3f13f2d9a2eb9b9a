package limit

import (
	"time"

	"disc/discovery"
)

// The horizons that there are: how long a token may be good.
const (
	shortestHorizon = 25 * time.Millisecond // a purchase must be answered within it
	usualHorizon    = 250 * time.Millisecond
	longestHorizon  = time.Second
)

// parameters is what a limit means for purchases. Every agent derives the same one from the
// same policy.
type parameters struct {
	capacity float64       // the most that the debt may be, in tokens; at least 1
	rate     float64       // at which it drains, in tokens a second
	horizon  time.Duration // for which a token is good, from the sending of the purchase
}

// parametersOf splits a limit's burst between what may be sold at once and what is sold and
// not yet used. A longer horizon leaves less to be sold at once; a shorter one means
// smaller purchases, and more of them. Above 250 a second they are kept to a few dozen
// a second with a longer one.
func parametersOf(l discovery.Limit) parameters {
	rate, burst := l.PerSecond(), float64(l.Burst)
	horizon := clamp(rate/1000, usualHorizon, longestHorizon)
	if half := seconds(burst / rate / 2); half < horizon {
		horizon = half
	}
	if horizon < shortestHorizon || burst < 1+rate*horizon.Seconds() {
		return singleToken(rate)
	}
	return parameters{burst - rate*horizon.Seconds(), rate, horizon}
}

// singleToken is the shape of a limit that has no burst to speak of: its tokens are sold one
// by one, 1/rate + horizon apart.
func singleToken(rate float64) parameters {
	horizon := clamp(0.1/rate, shortestHorizon, longestHorizon)
	return parameters{1, rate / (1 + rate*horizon.Seconds()), horizon}
}

func clamp(s float64, least, most time.Duration) time.Duration {
	return max(least, min(seconds(s), most))
}

// seconds is a number of seconds, at most a year of them.
func seconds(s float64) time.Duration {
	return time.Duration(min(s, 365*24*3600) * float64(time.Second))
}
