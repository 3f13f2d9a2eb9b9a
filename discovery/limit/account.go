package limit

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"disc/discovery"
	"disc/discovery/retry"
)

// The spacing of purchases: a few dozen a second for each limit, by however many agents.
const (
	saleGap          = 5 * time.Millisecond  // from a sale that was seen to the next purchase, at least
	minSlot          = 6 * time.Millisecond  // the least of account.slot
	maxSlot          = 50 * time.Millisecond // the most of it
	purchaseInterval = saleGap + 2*minSlot

	// freshFor is how long the view of the ledger counts as current without news of etcd.
	freshFor = 10 * time.Second

	// prebuyFraction is the part of a horizon's demand that is bought ahead.
	prebuyFraction = 0.9

	// never is the time of what does not happen.
	never = time.Duration(math.MaxInt64)
)

// account is one agent's state of one limit. It is pure: its methods are given the time
// and what happened; a purchaser watches etcd and buys.
type account struct {
	purchaserID          string // this agent's, see [ledger]
	limit                discovery.Limit
	policyRevision       int64 // etcd's revision of the limit; 0: there is none
	policyErr            error // why the policy cannot be read
	newestPolicyRevision int64 // of the newest write or deletion of the policy that was seen
	ledger               storedLedger
	bucket
	tokens     tokens // bought and not used
	demand     demand
	contenders contenders
	queue      []*waiter

	stale         bool          // sales may have been missed; true at first
	confirmedAt   time.Duration // when the view was last known to be current
	lastSaleAt    time.Duration // when the last sale was seen
	jitter        time.Duration // how much longer to wait since then; see drawJitter
	notBefore     time.Duration // earliest next purchase, after one that failed or was lost
	backoff       retry.Backoff
	latency       time.Duration // of a purchase, a moving average
	purchaseCount int64         // purchases ever started
	satisfied     bool          // there was nothing to buy at the last check
	purchasing    bool
	pending       purchase // while purchasing
	credited      bool     // the tokens of pending were added
	failing       bool     // the outcome of the last purchase is not known
	lostPurchase  purchase // the last that lost its compare; not repeated while the view is the same
}

// purchase is an attempt to buy n tokens.
type purchase struct {
	n              int64
	policyRevision int64        // that it compares
	seenLedger     storedLedger // that it compares
	nextLedger     ledger       // that it writes
	sentAt         time.Duration
}

// waiter is a take that waits for a purchase.
type waiter struct {
	n      int64
	result chan takeResult // size one
}

// takeResult is the outcome of a take and, if it was granted, until when its tokens are
// good.
type takeResult struct {
	outcome
	until time.Duration
}

// outcome says how a take was decided.
type outcome int

const (
	granted outcome = iota
	denied
	unavailable // etcd is away, or the policy cannot be read
	noLimit     // there is no such limit
	queued      // not decided until a purchase was made
)

// newAccount returns the account of an agent that has seen nothing yet.
func newAccount(purchaserID string) account {
	return account{purchaserID: purchaserID, stale: true}
}

// setPolicy sets the policy as of a revision of etcd; a nil value means that there is
// none. A policy that was set before, as when this agent wrote it, changes nothing.
func (a *account) setPolicy(now time.Duration, value []byte, revision int64) {
	if !a.stale && revision <= a.newestPolicyRevision || revision == a.policyRevision && value != nil {
		return
	}
	a.policyRevision, a.policyErr, a.newestPolicyRevision = 0, nil, revision
	a.tokens.clear()
	if value != nil {
		a.policyRevision = revision
		a.limit, a.policyErr = discovery.DecodeLimit(value)
	}
	if a.exists() {
		a.parameters = parametersOf(a.limit)
		a.fill(now, longestHorizon)
	}
	a.settle(now)
}

// setLedger sets the ledger. A ledger that was set before, as when this agent's purchase
// wrote it, changes nothing.
func (a *account) setLedger(now time.Duration, v storedLedger) {
	before := a.ledger
	if !a.stale && v.modRevision != 0 && v.modRevision <= before.modRevision {
		return
	}
	a.ledger = v
	if !a.exists() {
		return
	}
	if v.continues(before) {
		a.charge(now, v.Sold-before.Sold)
		if v.Debt > 0 && v.modRevision > a.policyRevision {
			a.capDebt(now, v.Debt)
		}
	} else {
		a.fill(now, 0)
	}
	if v.modRevision != 0 {
		a.contenders.observe(now, v.purchaserID())
	}
	a.lastSaleAt, a.jitter = now, a.drawJitter()
	if a.purchasing && v.Sale == a.pending.nextLedger.Sale {
		a.credit(now) // the watch was faster than the answer
	}
	a.settle(now)
}

// drawJitter returns a random time to wait, in addition to saleGap, between a sale and
// the next purchase.
func (a *account) drawJitter() time.Duration {
	contenders := a.contenders.count()
	if contenders == 1 {
		return minSlot
	}
	return rand.N(a.slot() * time.Duration(contenders))
}

// slot returns the contention window's width for each agent that buys. Chance decides who
// is next; two purchases race if less time is between them than a sale takes to be seen.
func (a *account) slot() time.Duration { return max(minSlot, min(a.latency, maxSlot)) }

// observeLatency averages in how long a purchase took. A long one, as on an agent that
// was paused, is capped: a high average makes an agent wait longer, so it buys rarely and
// would learn slowly that the latency is low again.
func (a *account) observeLatency(took time.Duration) { a.latency += min((took-a.latency)/4, minSlot) }

// exists reports whether there is a limit that can be enforced.
func (a *account) exists() bool { return a.policyRevision != 0 && a.policyErr == nil }

// confirm records that the view is current.
func (a *account) confirm(now time.Duration) {
	a.checkFreshness(now)
	a.confirmedAt = now
	if !a.stale {
		return
	}
	a.stale, a.notBefore = false, 0 // etcd is back: buy without a further wait
	a.backoff.Reset()
	if a.exists() {
		a.fill(now, a.earlierTokensLast())
	}
}

// earlierTokensLast returns how long tokens of an earlier policy may still be good: the
// longest horizon, or 0 once there was a sale under the present policy.
func (a *account) earlierTokensLast() time.Duration {
	if a.ledger.modRevision > a.policyRevision {
		return 0
	}
	return longestHorizon
}

// markStale records that the view is not kept current now.
func (a *account) markStale(now time.Duration) {
	a.stale = true
	a.settle(now)
}

// checkFreshness makes the view stale if it was not confirmed for longer than freshFor.
func (a *account) checkFreshness(now time.Duration) {
	if now-a.confirmedAt > freshFor {
		a.stale = true
	}
}

// take decides a take at once if it can. Otherwise the outcome is queued, and the caller
// must append a waiter to the queue.
func (a *account) take(now time.Duration, n int64) takeResult {
	if !a.exists() {
		return takeResult{outcome: a.outcomeWithoutLimit()}
	}
	a.demand.add(now, n)
	if len(a.queue) == 0 {
		if until, ok := a.tokens.take(now, n); ok {
			return takeResult{granted, until}
		}
	}
	a.checkFreshness(now)
	switch {
	case a.stale || a.failing && (a.purchasing || now < a.notBefore):
		return takeResult{outcome: unavailable}
	case a.queuedTokens()+n > a.tokens.total+a.available(now+a.lookahead()):
		return takeResult{outcome: denied}
	}
	return takeResult{outcome: queued}
}

// lookahead returns how far in the future a token may become available for which a take
// still waits. Where tokens are sold one by one, takes wait for two horizons, so that no
// token goes unsold because nobody waits at its moment.
func (a *account) lookahead() time.Duration {
	if a.capacity > 1 {
		return 0
	}
	return 2 * a.horizon
}

// outcomeWithoutLimit returns the outcome of a take while no limit can be enforced.
func (a *account) outcomeWithoutLimit() outcome {
	if a.stale || a.policyErr != nil {
		return unavailable
	}
	return noLimit
}

// abandon removes a waiter that has waited for too long from the queue, and returns its
// result: unavailable if etcd does not answer the pending purchase, otherwise denied,
// since other agents were faster all the time. It returns false if the waiter is not
// queued any more; then its channel holds the result.
func (a *account) abandon(now time.Duration, w *waiter) (takeResult, bool) {
	at := slices.Index(a.queue, w)
	if at < 0 {
		return takeResult{}, false
	}
	a.queue = slices.Delete(a.queue, at, at+1)
	if a.purchasing && now > a.pending.sentAt+a.horizon {
		return takeResult{outcome: unavailable}, true
	}
	return takeResult{outcome: denied}, true
}

// queuedTokens returns how many tokens the queued takes want.
func (a *account) queuedTokens() (n int64) {
	for _, w := range a.queue {
		n += w.n
	}
	return n
}

// settle resolves every queued take whose outcome is now certain.
func (a *account) settle(now time.Duration) {
	if len(a.queue) == 0 {
		return
	}
	a.tokens.expire(now)
	still, left := a.queue[:0], a.tokens.total
	if !a.stale && a.exists() {
		left += a.available(now + a.lookahead())
	}
	if a.purchasing && !a.credited && a.ledger != a.pending.seenLedger {
		left += a.pending.n // they may have been bought; the answer says so
	}
	for _, w := range a.queue {
		r := a.resolve(now, w, len(still) == 0, left)
		if r.outcome == queued || r.outcome == granted {
			left -= w.n
		}
		if r.outcome == queued {
			still = append(still, w)
		} else {
			w.result <- r
		}
	}
	clear(a.queue[len(still):])
	a.queue = still
}

// resolve decides the take of a waiter. Only the first of the queue may take bought
// tokens. left is how many tokens are bought or available and not due to waiters before
// this one.
func (a *account) resolve(now time.Duration, w *waiter, first bool, left int64) takeResult {
	if !a.exists() {
		return takeResult{outcome: a.outcomeWithoutLimit()}
	}
	if first {
		if until, ok := a.tokens.take(now, w.n); ok {
			return takeResult{granted, until}
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
	d := discovery.Decision{
		Limit: a.limit, Granted: o == granted, Unavailable: o == unavailable,
		Remaining: max(0, a.tokens.total+a.available(now)-a.queuedTokens()), Full: max(0, a.drainedAt-now),
	}
	switch o {
	case denied:
		d.RetryAfter = max(time.Millisecond, a.availableAt(min(n, int64(a.capacity)))-now)
	case unavailable:
		d.Granted, d.RetryAfter = a.limit.OnUnavailable == discovery.AllowUnavailable, time.Second
	}
	return d
}
