package limit

import (
	"fmt"
	"time"
)

// purchaseSize is how many tokens would be bought if there was room: what waits, and ahead what
// will be used within a horizon. need is the least that is worth a purchase, 0 if none is.
func (a *account) purchaseSize(now time.Duration) (need, want int64) {
	a.tokens.expire(now)
	if len(a.queue) > 0 {
		need = a.queue[0].n - a.tokens.total
		want = a.queuedTokens() - a.tokens.total
	}
	ahead, most := int64(a.demand.rate(now)*a.horizon.Seconds()*prebuyFraction), a.demand.largestTake(now)
	if a.tokens.total <= ahead/2 && ahead >= most && !a.failing {
		need, want = max(need, min(most, int64(a.capacity))), max(want, 0)+ahead-a.tokens.total
	}
	return need, want
}

// demandAppeared reports once that there is something to buy after there was nothing.
func (a *account) demandAppeared(now time.Duration) bool {
	if !a.satisfied {
		return false
	}
	need, _ := a.purchaseSize(now)
	a.satisfied = need <= 0
	return !a.satisfied
}

// nextPurchase returns how many tokens to buy now; if none, when to ask again unless something
// happens before.
func (a *account) nextPurchase(now time.Duration) (n int64, again time.Duration) {
	if a.purchasing || !a.exists() || a.stale || a.lostPurchase.policyRevision == a.policyRevision && a.lostPurchase.seenLedger == a.ledger {
		return 0, never
	}
	a.checkFreshness(now)
	need, want := a.purchaseSize(now)
	if a.satisfied = need <= 0; a.satisfied || a.stale {
		return 0, never
	}
	at := max(a.lastSaleAt+saleGap, a.availableAt(need)) + a.jitter
	if at = max(at, a.notBefore); at > now {
		return 0, at
	}
	n = min(want, a.available(now), max(need, a.fairShare()))
	if n < need {
		return 0, now + time.Millisecond
	}
	return n, never
}

// fairShare is how many tokens one of several agents buys at once: its part of the burst, or
// what drains between two purchases.
func (a *account) fairShare() int64 {
	return int64(max(a.capacity/float64(a.contenders.count()), 2*a.rate*purchaseInterval.Seconds()))
}

// startPurchase begins a purchase. It is to be sent now.
func (a *account) startPurchase(now time.Duration, n int64) purchase {
	a.purchasing = true
	a.purchaseCount++
	a.pending = purchase{n: n, policyRevision: a.policyRevision, seenLedger: a.ledger, sentAt: now,
		nextLedger: ledger{a.ledger.Sold + n, fmt.Sprintf("%s.%d", a.purchaserID, a.purchaseCount), a.debt(now) + float64(n)}}
	a.credited = false
	return a.pending
}

// credit puts what was bought into the hand.
func (a *account) credit(now time.Duration) {
	if until := a.pending.sentAt + a.horizon; !a.credited && a.policyRevision == a.pending.policyRevision && now < until {
		a.tokens.add(a.pending.n, until)
	}
	a.credited = true
}

// purchaseCommitted is told that an order was committed, and what the ledger is now.
func (a *account) purchaseCommitted(now time.Duration, o purchase, v storedLedger) {
	a.credit(now)
	a.observeLatency(now - o.sentAt)
	a.purchasing, a.failing = false, false
	a.backoff.Reset()
	if a.ledger == o.seenLedger && !a.stale {
		a.setLedger(now, v)
	}
	a.settle(now)
}

// purchaseLost is told that an order met another ledger or policy than it had seen.
func (a *account) purchaseLost(now time.Duration, o purchase) {
	a.purchasing, a.failing, a.lostPurchase = false, false, o
	a.observeLatency(now - o.sentAt)
	a.notBefore = now + min(a.backoff.Next(), a.slot()*time.Duration(a.contenders.count()))
	a.backoff.Failed()
	a.settle(now)
}

// purchaseFailed is told that the outcome of an order is not known. If it was committed, it will
// be seen as others' sales are.
func (a *account) purchaseFailed(now time.Duration) (log bool) {
	a.purchasing, a.failing = false, true
	a.notBefore = now + a.backoff.Next()
	log = a.backoff.Failed()
	for _, w := range a.queue {
		w.result <- takeResult{outcome: unavailable}
	}
	a.queue = nil
	return log
}
