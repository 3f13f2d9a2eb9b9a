package limit

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"disc/discovery"
	"disc/discovery/retry"
)

// How purchases are spaced: a few dozen a second and limit, by however many agents.
const (
	saleGap          = 5 * time.Millisecond  // after a sale that was seen
	minSlot          = 6 * time.Millisecond  // at least, for each that buys: see account.turn
	maxSlot          = 50 * time.Millisecond // at most
	purchaseInterval = saleGap + 2*minSlot

	// freshFor is for how long the view of the ledger is good without a sign of etcd.
	freshFor = 10 * time.Second

	// prebuyFraction is the part of the demand of a horizon that is bought ahead.
	prebuyFraction = 0.9

	never = time.Duration(math.MaxInt64)
)

// account is one agent's side of one limit: what it knows, owns and wants. It is pure:
// its methods are told the time, and what happened; an I/O part watches and buys.
type account struct {
	purchaserID          string // of this agent; see [ledger]
	limit                discovery.Limit
	policyRevision       int64 // etcd's revision of the limit; 0: there is none
	policyErr            error // why the policy cannot be read
	newestPolicyRevision int64 // the newest revision of the policy, or of its end, that it was told of
	ledger               storedLedger
	bucket
	tokens     tokens
	demand     demand
	contenders contenders
	queue      []*waiter

	stale         bool          // sales may have been missed; as it is at first
	confirmedAt   time.Duration // when the view was last known to be current
	lastSaleAt    time.Duration // when the last sale was seen
	jitter        time.Duration // of the turn since then
	notBefore     time.Duration // a purchase, after one that failed or was lost
	backoff       retry.Backoff
	latency       time.Duration // of a purchase, on average
	purchaseCount int64         // ever made
	satisfied     bool          // there was nothing to buy when it was last asked
	purchasing    bool
	pending       purchase // while buying
	credited      bool     // what it buys is in the hand
	failing       bool     // the last purchase met no etcd that took it
	lostPurchase  purchase // lost its race, on a view that has yet to change
}

// purchase is a purchase to be made.
type purchase struct {
	n              int64
	policyRevision int64        // the view that it compares with
	seenLedger     storedLedger // likewise
	nextLedger     ledger
	sentAt         time.Duration
}

// waiter is a take that waits for a purchase.
type waiter struct {
	n      int64
	result chan takeResult // size one
}

// takeResult is what became of a take, and until when the tokens are good that it got.
type takeResult struct {
	outcome
	until time.Duration
}

// outcome is what became of a take.
type outcome int

const (
	granted outcome = iota
	denied
	unavailable
	noLimit // there is no such limit
	queued  // until a purchase has been made
)

// newAccount returns the account of an agent that has seen nothing yet.
func newAccount(buyer string) account { return account{purchaserID: buyer, stale: true} }

// setPolicy is told the policy, or with no value that there is none. What was written
// through this agent it may be told again.
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

// setLedger is told the ledger. What it was told by a purchase it may be told again.
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

// drawJitter is how long to wait for one's turn to buy.
func (a *account) drawJitter() time.Duration {
	rivals := a.contenders.count()
	if rivals == 1 {
		return minSlot
	}
	return rand.N(a.slot() * time.Duration(rivals))
}

// slot is the time for each that buys. Within these, who is next is left to chance; two
// meet in a race if there is less between them than a sale takes to be seen.
func (a *account) slot() time.Duration { return max(minSlot, min(a.latency, maxSlot)) }

// observeLatency is told how long a purchase took. One that took long, as on an agent that stood
// still meanwhile, counts for little: who waits longer than the others hardly ever buys,
// and would not learn soon that it need not.
func (a *account) observeLatency(took time.Duration) { a.latency += min((took-a.latency)/4, minSlot) }

// exists reports whether there is a limit that can be kept.
func (a *account) exists() bool { return a.policyRevision != 0 && a.policyErr == nil }

// confirm is told that the view is current.
func (a *account) confirm(now time.Duration) {
	a.checkFreshness(now)
	a.confirmedAt = now
	if !a.stale {
		return
	}
	a.stale, a.notBefore = false, 0 // etcd is back: why wait for longer
	a.backoff.Reset()
	if a.exists() {
		a.fill(now, a.earlierTokensLast())
	}
}

// earlierTokensLast is for how long tokens of an earlier policy may be about: not at all once
// there was a sale under this one.
func (a *account) earlierTokensLast() time.Duration {
	if a.ledger.modRevision > a.policyRevision {
		return 0
	}
	return longestHorizon
}

// markStale is told that the view is not kept up to date now.
func (a *account) markStale(now time.Duration) {
	a.stale = true
	a.settle(now)
}

// checkFreshness loses a view of which nothing was heard for too long.
func (a *account) checkFreshness(now time.Duration) {
	if now-a.confirmedAt > freshFor {
		a.stale = true
	}
}

// take decides on a take at once, or says that it has to wait for a purchase, for which
// it is to be put into the queue.
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

// lookahead is how far in the future a token may be that a take waits for. Where they come
// one by one, none should go by for want of a take at its moment.
func (a *account) lookahead() time.Duration {
	if a.capacity > 1 {
		return 0
	}
	return 2 * a.horizon
}

func (a *account) outcomeWithoutLimit() outcome {
	if a.stale || a.policyErr != nil {
		return unavailable
	}
	return noLimit
}

// abandon takes a waiter that has waited for too long out of the queue; false: its outcome
// is there. If it is not for want of an answer, others were faster all the time.
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

// queuedTokens is how many tokens the takes in the queue want.
func (a *account) queuedTokens() (n int64) {
	for _, w := range a.queue {
		n += w.n
	}
	return n
}

// settle tells those in the queue of whom it is clear now.
func (a *account) settle(now time.Duration) {
	if len(a.queue) == 0 {
		return
	}
	a.tokens.expire(now)
	kept, left := a.queue[:0], a.tokens.total
	if !a.stale && a.exists() {
		left += a.available(now + a.lookahead())
	}
	if a.purchasing && !a.credited && a.ledger != a.pending.seenLedger {
		left += a.pending.n // maybe; the answer says so
	}
	for _, w := range a.queue {
		o := a.resolve(now, w, len(kept) == 0, left)
		if o.outcome == queued || o.outcome == granted {
			left -= w.n
		}
		if o.outcome == queued {
			kept = append(kept, w)
		} else {
			w.result <- o
		}
	}
	clear(a.queue[len(kept):])
	a.queue = kept
}

// resolve decides on the take of a waiter, who is the first or has to leave the hand to
// others; left is what there is in the hand and to be bought.
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

// decision tells of the limit as it is now.
func (a *account) decision(now time.Duration, v outcome, n int64) discovery.Decision {
	d := discovery.Decision{
		Limit: a.limit, Granted: v == granted, Unavailable: v == unavailable,
		Remaining: max(0, a.tokens.total+a.available(now)-a.queuedTokens()), Full: max(0, a.drainedAt-now),
	}
	switch v {
	case denied:
		d.RetryAfter = max(time.Millisecond, a.availableAt(min(n, int64(a.capacity)))-now)
	case unavailable:
		d.Granted, d.RetryAfter = a.limit.OnUnavailable == discovery.AllowUnavailable, time.Second
	}
	return d
}
