package limit

import (
	"time"

	"disc/discovery"
)

// The bounds of a horizon, which is how long a token may be good.
const (
	shortestHorizon = 25 * time.Millisecond // long enough for etcd to answer a purchase
	usualHorizon    = 250 * time.Millisecond
	longestHorizon  = time.Second
)

// parameters are a limit's rules for purchases. Every agent derives the same ones from the
// same policy.
type parameters struct {
	capacity float64       // the largest debt that a purchase may make, in tokens; at least 1
	rate     float64       // at which the debt drains, in tokens a second
	horizon  time.Duration // how long a token is good, from the sending of the purchase
}

// parametersOf splits a limit's burst between the tokens that may be sold at once and those
// that are sold and not used yet. A longer horizon leaves less to be sold at once; a
// shorter one means more and smaller purchases. Above 250 tokens a second the horizon
// grows with the rate, which keeps purchases to a few dozen a second.
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

// singleToken returns the parameters of a limit whose burst is too small to split: its
// tokens are sold one by one, 1/rate + horizon apart.
func singleToken(rate float64) parameters {
	horizon := clamp(0.1/rate, shortestHorizon, longestHorizon)
	return parameters{1, rate / (1 + rate*horizon.Seconds()), horizon}
}

func clamp(s float64, least, most time.Duration) time.Duration {
	return max(least, min(seconds(s), most))
}

// seconds returns s seconds as a duration, at most a year.
func seconds(s float64) time.Duration {
	return time.Duration(min(s, 365*24*3600) * float64(time.Second))
}
