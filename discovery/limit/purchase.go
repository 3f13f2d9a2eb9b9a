package limit

import (
	"fmt"
	"time"
)

// want is how many tokens would be bought if there was room: what waits, and ahead what
// will be used within a horizon. need is the least that is worth a purchase, 0 if none is.
func (a *account) want(now time.Duration) (need, want int64) {
	a.hand.expire(now)
	if len(a.queue) > 0 {
		need = a.queue[0].n - a.hand.total
		want = a.waiting() - a.hand.total
	}
	ahead, most := int64(a.demand.rate(now)*a.horizon.Seconds()*useful), a.demand.most(now)
	if a.hand.total <= ahead/2 && ahead >= most && !a.failing {
		need, want = max(need, min(most, int64(a.capacity))), max(want, 0)+ahead-a.hand.total
	}
	return need, want
}

// hungry reports once that there is something to buy after there was nothing.
func (a *account) hungry(now time.Duration) bool {
	if !a.content {
		return false
	}
	need, _ := a.want(now)
	a.content = need <= 0
	return !a.content
}

// next returns how many tokens to buy now; if none, when to ask again unless something
// happens before.
func (a *account) next(now time.Duration) (n int64, again time.Duration) {
	if a.buying || !a.exists() || a.blind || a.outdated.policy == a.policy && a.outdated.seen == a.ledger {
		return 0, never
	}
	a.doubt(now)
	need, want := a.want(now)
	if a.content = need <= 0; a.content || a.blind {
		return 0, never
	}
	at := max(a.sold+pause, a.free(need)) + a.jitter
	if at = max(at, a.notBefore); at > now {
		return 0, at
	}
	n = min(want, a.room(now), max(need, a.share()))
	if n < need {
		return 0, now + time.Millisecond
	}
	return n, never
}

// share is how many tokens one of several agents buys at once: its part of the burst, or
// what drains between two purchases.
func (a *account) share() int64 {
	return int64(max(a.capacity/float64(a.rivals.count()), 2*a.rate*cycle.Seconds()))
}

// order begins a purchase. It is to be sent now.
func (a *account) order(now time.Duration, n int64) order {
	a.buying = true
	a.orders++
	a.pending = order{n: n, policy: a.policy, seen: a.ledger, sent: now,
		next: ledger{a.ledger.Sold + n, fmt.Sprintf("%s.%d", a.buyer, a.orders), a.debt(now) + float64(n)}}
	a.received = false
	return a.pending
}

// receive puts what was bought into the hand.
func (a *account) receive(now time.Duration) {
	if until := a.pending.sent + a.horizon; !a.received && a.policy == a.pending.policy && now < until {
		a.hand.add(a.pending.n, until)
	}
	a.received = true
}

// bought is told that an order was committed, and what the ledger is now.
func (a *account) bought(now time.Duration, o order, v version) {
	a.receive(now)
	a.timed(now - o.sent)
	a.buying, a.failing = false, false
	a.retry.Reset()
	if a.ledger == o.seen && !a.blind {
		a.setLedger(now, v)
	}
	a.settle(now)
}

// lost is told that an order met another ledger or policy than it had seen.
func (a *account) lost(now time.Duration, o order) {
	a.buying, a.failing, a.outdated = false, false, o
	a.timed(now - o.sent)
	a.notBefore = now + min(a.retry.Next(), a.turn()*time.Duration(a.rivals.count()))
	a.retry.Failed()
	a.settle(now)
}

// failed is told that the outcome of an order is not known. If it was committed, it will
// be seen as others' sales are.
func (a *account) failed(now time.Duration) (log bool) {
	a.buying, a.failing = false, true
	a.notBefore = now + a.retry.Next()
	log = a.retry.Failed()
	for _, w := range a.queue {
		w.outcome <- outcome{verdict: unavailable}
	}
	a.queue = nil
	return log
}
