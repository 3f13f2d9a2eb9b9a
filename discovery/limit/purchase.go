package limit

import (
	"fmt"
	"time"
)

// purchase is an attempt to buy n tokens.
type purchase struct {
	n              int64
	epoch          string       // that it compares; "": none
	policyRevision int64        // that it compares
	seenLedger     storedLedger // that it compares
	nextLedger     ledger       // that it writes
	sentAt         time.Duration
	failed         bool // its outcome is not known
	credited       bool // it was dealt with by credit
}

// purchaseSize returns how many tokens to buy if all were available: those that waiters
// lack and, ahead, those that the demand will use within a horizon. need is the least
// number that is worth a purchase; 0: there is nothing to buy.
func (a *account) purchaseSize(now time.Duration) (need, want int64) {
	a.expireTokens(now)
	if len(a.queue) > 0 {
		need = a.queue[0].n - a.tokens.total
		want = a.queued - a.tokens.total
	}
	ahead, largest := int64(a.demand.rate(now)*a.horizon.Seconds()*prebuyFraction), a.demand.largestTake(now)
	if a.tokens.total <= ahead/2 && ahead >= largest && a.failure == nil {
		need, want = max(need, min(largest, int64(a.burst))), max(want, 0)+ahead-a.tokens.total
	}
	return need, want
}

// demandAppeared reports, once, that there is something to buy after there was nothing.
func (a *account) demandAppeared(now time.Duration) bool {
	if !a.satisfied {
		return false
	}
	need, _ := a.purchaseSize(now)
	a.satisfied = need <= 0
	return !a.satisfied
}

// nextPurchase returns how many tokens to buy now. If n is 0, again is when to call it
// the next time, unless the account changes before.
func (a *account) nextPurchase(now time.Duration) (n int64, again time.Duration) {
	lost := a.lostPurchase.n > 0 && a.confirmedAt <= a.lostAt // the view is not etcd's yet
	if a.purchasing || !a.exists() || a.stale || lost {
		return 0, never
	}
	a.checkFreshness(now)
	need, want := a.purchaseSize(now)
	if a.satisfied = need <= 0; a.satisfied || a.stale {
		return 0, never
	}
	at := max(a.lastSaleAt+saleGap, now+a.availableIn(now, need)) + a.jitter
	if at = max(at, a.notBefore); at > now {
		return 0, at
	}
	n = min(want, a.available(now), max(need, a.fairShare()))
	if n < need {
		return 0, now + time.Millisecond
	}
	return n, never
}

// fairShare returns how many tokens one of several agents buys at once: its part of the
// capacity or, if that is more, what drains in two purchase intervals.
func (a *account) fairShare() int64 {
	return int64(max(a.capacity/float64(a.contenders.count()), 2*a.rate*purchaseInterval.Seconds()))
}

// startPurchase makes a purchase of n tokens the pending one. The caller must send it at
// once. wall is the wall clock's time.
func (a *account) startPurchase(now time.Duration, n int64, wall time.Time) purchase {
	a.purchasing = true
	a.purchaseCount++
	if now-a.failedAt > failureTTL {
		a.failure = nil
	}
	next := ledger{Sold: a.ledger.Sold + n, Sale: fmt.Sprintf("%s.%d", a.purchaserID, a.purchaseCount),
		Debt: max(0, a.debt(now)) + float64(n), Policy: a.policy.Revision}
	if a.rate < slowRate {
		next.At = wall.Unix() + 1 // rounded up
	}
	if a.pending.failed && !a.pending.credited && a.pending.seenLedger == a.ledger {
		a.unanswered = append(a.unanswered[max(0, len(a.unanswered)-maxUnanswered+1):], a.pending)
	}
	a.pending = purchase{n: n, epoch: a.epoch, policyRevision: a.policy.Revision, seenLedger: a.ledger, nextLedger: next, sentAt: now}
	return a.pending
}

// creditSale credits the purchase whose sale the ledger has now, if it is one of this agent. Of the
// others without an answer none can be committed any more: they compare an earlier ledger.
func (a *account) creditSale(now time.Duration, sale string) {
	a.ledgerSentAt = 0
	unanswered := a.unanswered
	a.unanswered = nil
	for n := range unanswered {
		if unanswered[n].nextLedger.Sale == sale {
			a.ledgerSentAt = unanswered[n].sentAt
			a.credit(now, &unanswered[n])
		}
	}
	if a.pending.nextLedger.Sale == sale {
		a.ledgerSentAt = a.pending.sentAt
		a.credit(now, &a.pending)
	}
}

// credit adds the tokens of a purchase, which etcd has committed, once, unless the policy has
// changed. It gives them back if they are void already; so the sale must have been charged
// before, if it was seen.
func (a *account) credit(now time.Duration, p *purchase) {
	if p.credited {
		return
	}
	p.credited = true
	if a.chargedAt <= p.sentAt {
		a.coveredFrom = now // the sale will be seen when the watch is back
	}
	switch {
	case a.policy.Revision != p.policyRevision:
	case now < p.sentAt+a.horizon:
		a.tokens.add(p.n, p.sentAt)
	default:
		a.giveBackVoid(p.n, p.sentAt)
		a.answerTime = now - p.sentAt
		for _, w := range a.queue {
			w.late = true
		}
	}
}

// expireTokens drops the tokens that are void, and gives them back.
func (a *account) expireTokens(now time.Duration) {
	for {
		void, ok := a.tokens.dropSentBy(now - a.horizon)
		if !ok {
			return
		}
		a.giveBackVoid(void.n, void.sentAt)
	}
}

// giveBackVoid gives back n tokens that are void and were not admitted, the first of which
// are of a purchase that was sent at a time.
func (a *account) giveBackVoid(n int64, sentAt time.Duration) {
	a.giveBack(n, sentAt, sentAt == a.ledgerSentAt)
}

// refund takes back n tokens that were taken and not used. The purchase of the oldest was
// sent at sentAt. They can be taken again or, once they are void, are given back; not if the
// policy has changed since then.
func (a *account) refund(now time.Duration, n int64, sentAt time.Duration) {
	if sentAt < a.coveredFrom {
		return
	}
	a.tokens.add(n, sentAt)
	a.expireTokens(now)
	a.settle(now)
}

// purchaseCommitted records that etcd committed a purchase, and the ledger since then.
func (a *account) purchaseCommitted(now time.Duration, p purchase, v storedLedger) {
	a.observeLatency(now - p.sentAt)
	if a.ledger == p.seenLedger && a.epoch == p.epoch && !a.stale {
		a.setLedger(now, v)
	}
	a.credit(now, &a.pending)
	a.purchasing, a.failure = false, nil
	a.backoff.Reset()
	a.settle(now)
}

// purchaseLost records that a purchase was not made, since the ledger or the policy in
// etcd was not the one that it had seen.
func (a *account) purchaseLost(now time.Duration, p purchase) {
	a.purchasing, a.failure, a.lostPurchase, a.lostAt = false, nil, p, now
	a.observeLatency(now - p.sentAt)
	a.notBefore = now + a.draw(min(a.backoff.Bound(), a.slot()*time.Duration(a.contenders.count())))
	a.backoff.Failed()
	a.settle(now)
}

// purchaseFailed records that the outcome of the pending purchase is not known. If etcd
// committed it, the watch shows it. log reports whether this failure is one to log.
func (a *account) purchaseFailed(now time.Duration, err error) (log bool) {
	a.purchasing, a.pending.failed, a.failure, a.failedAt = false, true, err, now
	a.notBefore = now + a.draw(a.backoff.Bound())
	log = a.backoff.Failed()
	for _, w := range a.queue {
		w.result <- takeResult{outcome: unavailable}
	}
	a.queue, a.queued = nil, 0
	return log
}
