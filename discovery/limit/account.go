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
	pause = 5 * time.Millisecond  // after a sale that was seen
	turn  = 6 * time.Millisecond  // at least, for each that buys: see account.turn
	turns = 50 * time.Millisecond // at most
	cycle = pause + 2*turn

	// trusted is for how long the view of the ledger is good without a sign of etcd.
	trusted = 10 * time.Second

	// useful is the part of the demand of a horizon that is bought ahead.
	useful = 0.9

	never = time.Duration(math.MaxInt64)
)

// account is one agent's side of one limit: what it knows, owns and wants. It is pure:
// its methods are told the time, and what happened; an I/O part watches and buys.
type account struct {
	buyer  string // of this agent; see [ledger]
	limit  discovery.Limit
	policy int64 // etcd's revision of the limit; 0: there is none
	broken error // why the policy cannot be read
	told   int64 // the newest revision of the policy, or of its end, that it was told of
	ledger version
	bucket
	hand   hand
	demand demand
	rivals rivals
	queue  []*waiter

	blind     bool          // sales may have been missed; as it is at first
	confirmed time.Duration // when the view was last known to be current
	sold      time.Duration // when the last sale was seen
	jitter    time.Duration // of the turn since then
	notBefore time.Duration // a purchase, after one that failed or was lost
	retry     retry.Backoff
	latency   time.Duration // of a purchase, on average
	orders    int64         // ever made
	content   bool          // there was nothing to buy when it was last asked
	buying    bool
	pending   order // while buying
	received  bool  // what it buys is in the hand
	failing   bool  // the last purchase met no etcd that took it
	outdated  order // lost its race, on a view that has yet to change
}

// order is a purchase to be made.
type order struct {
	n      int64
	policy int64   // the view that it compares with
	seen   version // likewise
	next   ledger
	sent   time.Duration
}

// waiter is a take that waits for a purchase.
type waiter struct {
	n       int64
	outcome chan outcome // size one
}

// outcome is what became of a take, and until when the tokens are good that it got.
type outcome struct {
	verdict
	until time.Duration
}

// verdict is what became of a take.
type verdict int

const (
	granted verdict = iota
	denied
	unavailable
	unknown // there is no such limit
	waits   // until a purchase has been made
)

// newAccount returns the account of an agent that has seen nothing yet.
func newAccount(buyer string) account { return account{buyer: buyer, blind: true} }

// setPolicy is told the policy, or with no value that there is none. What was written
// through this agent it may be told again.
func (a *account) setPolicy(now time.Duration, value []byte, revision int64) {
	if !a.blind && revision <= a.told || revision == a.policy && value != nil {
		return
	}
	a.policy, a.broken, a.told = 0, nil, revision
	a.hand.clear()
	if value != nil {
		a.policy = revision
		a.limit, a.broken = discovery.DecodeLimit(value)
	}
	if a.exists() {
		a.shape = shapeOf(a.limit)
		a.fill(now, longestHorizon)
	}
	a.settle(now)
}

// setLedger is told the ledger. What it was told by a purchase it may be told again.
func (a *account) setLedger(now time.Duration, v version) {
	before := a.ledger
	if !a.blind && v.modified != 0 && v.modified <= before.modified {
		return
	}
	a.ledger = v
	if !a.exists() {
		return
	}
	if v.continues(before) {
		a.charge(now, v.Sold-before.Sold)
		if v.Debt > 0 && v.modified > a.policy {
			a.lower(now, v.Debt)
		}
	} else {
		a.fill(now, 0)
	}
	if v.modified != 0 {
		a.rivals.saw(now, v.buyer())
	}
	a.sold, a.jitter = now, a.draw()
	if a.buying && v.Sale == a.pending.next.Sale {
		a.receive(now) // the watch was faster than the answer
	}
	a.settle(now)
}

// draw is how long to wait for one's turn to buy.
func (a *account) draw() time.Duration {
	rivals := a.rivals.count()
	if rivals == 1 {
		return turn
	}
	return rand.N(a.turn() * time.Duration(rivals))
}

// turn is the time for each that buys. Within these, who is next is left to chance; two
// meet in a race if there is less between them than a sale takes to be seen.
func (a *account) turn() time.Duration { return max(turn, min(a.latency, turns)) }

// timed is told how long a purchase took. One that took long, as on an agent that stood
// still meanwhile, counts for little: who waits longer than the others hardly ever buys,
// and would not learn soon that it need not.
func (a *account) timed(took time.Duration) { a.latency += min((took-a.latency)/4, turn) }

// exists reports whether there is a limit that can be kept.
func (a *account) exists() bool { return a.policy != 0 && a.broken == nil }

// confirm is told that the view is current.
func (a *account) confirm(now time.Duration) {
	a.doubt(now)
	a.confirmed = now
	if !a.blind {
		return
	}
	a.blind, a.notBefore = false, 0 // etcd is back: why wait for longer
	a.retry.Reset()
	if a.exists() {
		a.fill(now, a.untouched())
	}
}

// untouched is for how long tokens of an earlier policy may be about: not at all once
// there was a sale under this one.
func (a *account) untouched() time.Duration {
	if a.ledger.modified > a.policy {
		return 0
	}
	return longestHorizon
}

// lose is told that the view is not kept up to date now.
func (a *account) lose(now time.Duration) {
	a.blind = true
	a.settle(now)
}

// doubt loses a view of which nothing was heard for too long.
func (a *account) doubt(now time.Duration) {
	if now-a.confirmed > trusted {
		a.blind = true
	}
}

// take decides on a take at once, or says that it has to wait for a purchase, for which
// it is to be put into the queue.
func (a *account) take(now time.Duration, n int64) outcome {
	if !a.exists() {
		return outcome{verdict: a.absent()}
	}
	a.demand.add(now, n)
	if len(a.queue) == 0 {
		if until, ok := a.hand.take(now, n); ok {
			return outcome{granted, until}
		}
	}
	a.doubt(now)
	switch {
	case a.blind || a.failing && (a.buying || now < a.notBefore):
		return outcome{verdict: unavailable}
	case a.waiting()+n > a.hand.total+a.room(now+a.ahead()):
		return outcome{verdict: denied}
	}
	return outcome{verdict: waits}
}

// ahead is how far in the future a token may be that a take waits for. Where they come
// one by one, none should go by for want of a take at its moment.
func (a *account) ahead() time.Duration {
	if a.capacity > 1 {
		return 0
	}
	return 2 * a.horizon
}

func (a *account) absent() verdict {
	if a.blind || a.broken != nil {
		return unavailable
	}
	return unknown
}

// leave takes a waiter that has waited for too long out of the queue; false: its outcome
// is there. If it is not for want of an answer, others were faster all the time.
func (a *account) leave(now time.Duration, w *waiter) (outcome, bool) {
	at := slices.Index(a.queue, w)
	if at < 0 {
		return outcome{}, false
	}
	a.queue = slices.Delete(a.queue, at, at+1)
	if a.buying && now > a.pending.sent+a.horizon {
		return outcome{verdict: unavailable}, true
	}
	return outcome{verdict: denied}, true
}

// waiting is how many tokens the takes in the queue want.
func (a *account) waiting() (n int64) {
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
	a.hand.expire(now)
	kept, left := a.queue[:0], a.hand.total
	if !a.blind && a.exists() {
		left += a.room(now + a.ahead())
	}
	if a.buying && !a.received && a.ledger != a.pending.seen {
		left += a.pending.n // maybe; the answer says so
	}
	for _, w := range a.queue {
		o := a.judge(now, w, len(kept) == 0, left)
		if o.verdict == waits || o.verdict == granted {
			left -= w.n
		}
		if o.verdict == waits {
			kept = append(kept, w)
		} else {
			w.outcome <- o
		}
	}
	clear(a.queue[len(kept):])
	a.queue = kept
}

// judge decides on the take of a waiter, who is the first or has to leave the hand to
// others; left is what there is in the hand and to be bought.
func (a *account) judge(now time.Duration, w *waiter, first bool, left int64) outcome {
	if !a.exists() {
		return outcome{verdict: a.absent()}
	}
	if first {
		if until, ok := a.hand.take(now, w.n); ok {
			return outcome{granted, until}
		}
	}
	switch {
	case a.blind:
		return outcome{verdict: unavailable}
	case w.n > left:
		return outcome{verdict: denied}
	}
	return outcome{verdict: waits}
}

// decision tells of the limit as it is now.
func (a *account) decision(now time.Duration, v verdict, n int64) discovery.Decision {
	d := discovery.Decision{
		Limit: a.limit, Granted: v == granted, Unavailable: v == unavailable,
		Remaining: max(0, a.hand.total+a.room(now)-a.waiting()), Full: max(0, a.clear-now),
	}
	switch v {
	case denied:
		d.RetryAfter = max(time.Millisecond, a.free(min(n, int64(a.capacity)))-now)
	case unavailable:
		d.Granted, d.RetryAfter = a.limit.OnUnavailable == discovery.AllowUnavailable, time.Second
	}
	return d
}
