package limit

import (
	"fmt"
	"slices"
	"time"

	"disc/discovery"
)

// waiter is a take that waits for a purchase.
type waiter struct {
	n      int64
	result chan takeResult // size one
	late   bool            // meanwhile etcd answered a purchase so late that the tokens were void
}

func newWaiter(n int64) *waiter { return &waiter{n: n, result: make(chan takeResult, 1)} }

// takeResult is the outcome of a take and, if it was granted, when the purchase of its
// oldest token was sent.
type takeResult struct {
	outcome
	sentAt time.Duration
}

// outcome says how a take was decided.
type outcome int

const (
	granted outcome = iota
	denied
	unavailable // etcd is away, or the policy cannot be read
	late        // etcd answers purchases when their tokens are void
	noLimit     // there is no such limit
	queued      // not decided until a purchase was made
)

// take decides a take at once if it can. Otherwise the outcome is queued, and the caller
// must enqueue a waiter.
func (a *account) take(now time.Duration, n int64) takeResult {
	if !a.exists() {
		return takeResult{outcome: a.outcomeWithoutLimit()}
	}
	a.demand.add(now, n)
	a.expireTokens(now)
	if len(a.queue) == 0 {
		if sentAt, ok := a.tokens.take(n); ok {
			a.deniedSince = 0
			return takeResult{granted, sentAt}
		}
	}
	a.deniedSince++
	a.checkFreshness(now)
	switch {
	case a.stale || a.failure != nil && (a.purchasing || now < a.notBefore):
		return takeResult{outcome: unavailable}
	case a.queued+n > a.tokens.total+a.available(now+a.lookahead()):
		return takeResult{outcome: denied}
	}
	return takeResult{outcome: queued}
}

// lookahead returns how far in the future a token may become available for which a take
// still waits. Where tokens are sold one by one, takes wait for two horizons or longer, so
// that no token goes unsold because nobody waits at its moment, and callers that come in
// whole seconds have their turn. Where at most one token comes in a horizon, they wait for
// that one, so that all tokens that are left can be taken.
func (a *account) lookahead() time.Duration {
	switch {
	case a.capacity <= 1:
		return max(2*a.horizon, min(seconds(1/a.rate), usualHorizon))
	case a.capacity >= a.burst-1:
		return a.horizon + time.Millisecond
	}
	return 0
}

// outcomeWithoutLimit returns the outcome of a take while no limit can be enforced.
func (a *account) outcomeWithoutLimit() outcome {
	deleted := a.policy.Created == 0 && a.newest != 0
	if a.policy.err != nil || a.stale && !deleted {
		return unavailable
	}
	return noLimit
}

// abandon removes a waiter that has waited for too long from the queue, and returns its
// result: unavailable if etcd does not answer the pending purchase, late if it answered one
// too late, otherwise denied, since other agents were faster all the time. It returns false
// if the waiter is not queued any more; then its channel holds the result.
func (a *account) abandon(now time.Duration, w *waiter) (takeResult, bool) {
	at := slices.Index(a.queue, w)
	if at < 0 {
		return takeResult{}, false
	}
	a.queue = slices.Delete(a.queue, at, at+1)
	a.queued -= w.n
	a.settle(now) // those behind may have enough now
	switch {
	case w.late:
		return takeResult{outcome: late}, true
	case a.purchasing && now > a.pending.sentAt+a.horizon:
		return takeResult{outcome: unavailable}, true
	}
	return takeResult{outcome: denied}, true
}

// enqueue lets a take wait for a purchase.
func (a *account) enqueue(w *waiter) {
	a.queue = append(a.queue, w)
	a.queued += w.n
}

// settle resolves every queued take whose outcome is now certain.
func (a *account) settle(now time.Duration) {
	if len(a.queue) == 0 {
		return
	}
	a.expireTokens(now)
	a.queued = 0
	still, left := a.queue[:0], a.tokens.total
	if !a.stale && a.exists() {
		left += a.available(now + a.lookahead())
	}
	if a.purchasing && !a.pending.credited && a.ledger != a.pending.seenLedger {
		left += a.pending.n // they may have been bought; the answer says so
	}
	for _, w := range a.queue {
		r := a.resolve(w, len(still) == 0, left)
		if r.outcome == queued || r.outcome == granted {
			left -= w.n
		}
		if r.outcome == queued {
			still = append(still, w)
			a.queued += w.n
		} else {
			w.result <- r
		}
	}
	clear(a.queue[len(still):])
	a.queue = still
}

// resolve decides the take of a waiter, after void tokens were dropped. Only the first of
// the queue may take bought tokens. left is how many tokens are bought or available and not due to waiters before
// this one.
func (a *account) resolve(w *waiter, first bool, left int64) takeResult {
	if !a.exists() {
		return takeResult{outcome: a.outcomeWithoutLimit()}
	}
	if first {
		if sentAt, ok := a.tokens.take(w.n); ok {
			a.deniedSince = 0
			return takeResult{granted, sentAt}
		}
	}
	switch {
	case a.stale:
		return takeResult{outcome: unavailable}
	case w.n > left:
		return takeResult{outcome: denied}
	}
	return takeResult{outcome: queued}
}

// decision returns the answer to a take of n tokens, with the limit's present state.
func (a *account) decision(now time.Duration, o outcome, n int64) discovery.Decision {
	d := discovery.Decision{Limit: a.policy.Limit, Granted: o == granted, Unavailable: o == unavailable || o == late}
	if a.exists() {
		d.Remaining = max(0, a.tokens.total+a.available(now+a.lookahead())-a.queued)
		d.Full = max(0, a.availableIn(now, int64(a.burst)))
	}
	switch o {
	case denied:
		// The random part keeps callers from coming in the same order each time. A hundredth
		// of a token's time is ten times what clocks differ in it.
		spread := min(seconds(0.1/a.rate), max(time.Second, seconds(0.01/a.rate)))
		d.RetryAfter = max(time.Millisecond, a.availableIn(now, min(n, int64(a.burst)))) + a.draw(spread+1)
		d.Contended = a.deniedSince > 1 || a.contenders.count() > 1
	case unavailable, late:
		d.Granted, d.RetryAfter = a.policy.Limit.OnUnavailable == discovery.AllowUnavailable, time.Second
		if d.Cause = a.unavailableCause(); o == late {
			d.Cause = fmt.Errorf("etcd took %v to answer a purchase of tokens, which are good for %v", a.answerTime.Round(time.Millisecond), a.horizon)
		}
	}
	return d
}

// unavailableCause returns why takes cannot be counted.
func (a *account) unavailableCause() error {
	switch {
	case a.failure != nil:
		return a.failure
	case a.stale && a.staleReason != nil:
		return a.staleReason
	case a.stale:
		return errNotRead
	}
	return errNoAnswer
}
