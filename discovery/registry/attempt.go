package registry

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// The time between two attempts of a write that fails for what is in it. It is random, from 0
// to a bound that doubles with each failure from firstRetry to maxRetry.
const (
	firstRetry = 200 * time.Millisecond
	maxRetry   = firstRetry << 7 // 25.6 s
)

// attempt says when a write may be attempted next. The zero value is: at once.
type attempt struct {
	failures int       // since the last success, of this write or of one that it waits with
	refused  int       // how often etcd refused this write alone, since the last success
	lost     bool      // the last failure was another writer's change, and no refusal
	at       time.Time // zero: at once
}

// due reports whether the write may be attempted now.
func (a attempt) due(now time.Time) bool { return !now.Before(a.at) }

// retryGrid gives the times of next attempts. They are multiples of the bound since the
// origin, so that all writes of one agent that failed equally often are due at the same time:
// one pass attempts a few of them, and the others wait with these. The origin is random, so
// that the agents of a fleet come at different times.
type retryGrid struct{ origin time.Time }

func newRetryGrid() retryGrid { return retryGrid{time.Now().Add(-rand.N(maxRetry))} }

// failed counts a failure and sets the time of the next attempt.
func (g retryGrid) failed(a *attempt, now time.Time) {
	a.failures++
	a.at = g.next(min(firstRetry<<min(a.failures-1, 10), maxRetry), now)
}

// refused counts a refusal of this write alone.
func (g retryGrid) refused(a *attempt, now time.Time) {
	g.failed(a, now)
	a.refused++
	a.lost = false
}

// contended counts a failure by another writer's change, which etcd finds out only of a write
// that it does not refuse. The first is no failure: the write is retried at once.
func (g retryGrid) contended(a *attempt, now time.Time) {
	if !a.lost {
		*a = attempt{lost: true}
		return
	}
	g.failed(a, now)
}

// next returns the next of the times that a bound gives.
func (g retryGrid) next(bound time.Duration, now time.Time) time.Time {
	return now.Add(bound - now.Sub(g.origin)%bound)
}

// wait makes a write wait until another is attempted again.
func (a *attempt) wait(other attempt) {
	a.failures, a.at, a.lost = max(a.failures, other.failures), latest(a.at, other.at), false
}

// restart makes a write be attempted at once. It keeps how often the write was refused, which
// gives the order of the attempts.
func (a *attempt) restart() { *a = attempt{refused: a.refused} }

// errContended means that others change a record as fast as it is written.
var errContended = errors.New("other writers change the record as fast as it is written")

// maxRefused is how many instances of one service may be refused in a row, each alone, before
// the rest of the service waits. After maxRefusedInAll, of several services, all the rest waits.
const (
	maxRefused      = 3
	maxRefusedInAll = 4 * maxRefused
)

// refusals are what etcd refused in one reconciliation.
type refusals struct {
	total, waiting int    // instances that were refused, and that wait with these
	first          error  // the first of the errors
	log            bool   // one of them failed for the 1st, 2nd, 4th, 8th time and so on
	inRow          int    // permissions refused since the last success
	again          bool   // another writer came first, and some writes can be retried at once
	service        string // of the last refused permission
	inService      int    // how many of inRow are of that service, at the end
}

// add counts the failure of one write.
func (f *refusals) add(err error, a attempt) {
	f.total++
	if f.first == nil {
		f.first = err
	}
	f.log = f.log || a.failures&(a.failures-1) == 0
}

// denied counts a write whose permission was refused. It reports whether the rest of its
// service must wait, and whether all the rest must.
func (f *refusals) denied(service string) (ofService, all bool) {
	if f.inRow++; service != f.service {
		f.service, f.inService = service, 0
	}
	f.inService++
	return f.inService >= maxRefused, f.inRow >= maxRefusedInAll
}

// succeeded notes that etcd accepts some writes.
func (f *refusals) succeeded() { f.inRow, f.inService = 0, 0 }

// reportRefusals counts and logs what was refused in a reconciliation.
func (r *Registry) reportRefusals(f *refusals) {
	if f.total == 0 {
		return
	}
	r.metrics.failures.Inc()
	if f.log {
		r.log.Warn("some records are not written; trying again", "refused", f.total, "waiting", f.waiting, "error", f.first)
	}
}

// contentionError returns the error of an instance whose record others change.
func contentionError(d *draft) error {
	return fmt.Errorf("write %s: %w", describe([]*draft{d}), errContended)
}
