package limit

import (
	"math"
	"math/rand/v2"
	"time"

	"disc/discovery/retry"
)

// The spacing of purchases: a few dozen a second for each limit, by however many agents.
const (
	saleGap          = 5 * time.Millisecond  // from a sale that was seen to the next purchase, at least
	minSlot          = 6 * time.Millisecond  // the least of account.slot
	maxSlot          = 50 * time.Millisecond // the most of it
	purchaseInterval = saleGap + 2*minSlot

	// slowRate is the rate, in tokens a second, below which the ledger carries the wall
	// clock's time: one token in ten minutes.
	slowRate = 1.0 / 600

	// prebuyFraction is the part of a horizon's demand that is bought ahead.
	prebuyFraction = 0.9

	// failureTTL is how long takes are not counted after a purchase whose outcome is not known.
	failureTTL = 5 * time.Second

	// maxUnanswered is the number of purchases without an answer that are remembered.
	maxUnanswered = 16

	// never is the time of what does not happen, and unknownRevision is above all of etcd's.
	never           = time.Duration(math.MaxInt64)
	unknownRevision = math.MaxInt64
)

// account is one agent's state of one limit. It is pure: its methods are given the time
// and what happened; a purchaser watches etcd and buys.
type account struct {
	purchaserID string                            // this agent's, see [ledger]
	draw        func(time.Duration) time.Duration // returns a random time below a bound; tests replace it
	policy      Policy                            // Created is 0: there is none
	newest      int64                             // etcd's revision of the newest write or deletion of the policy that was seen
	ledger      storedLedger
	epoch       string // of the etcd that the ledger is from
	lifeBegan   int64  // etcd's revision at which its present life began, or unknownRevision
	listed      bool   // the ledger was read, and is watched since then
	trusted     bool   // the ledger was written in the present life of etcd
	bucket
	voidAt     time.Duration // when the last token of an earlier policy is void
	tokens     tokens        // bought and not used
	demand     demand
	contenders contenders
	queue      []*waiter
	queued     int64 // tokens that they want

	deniedSince   int           // takes since the last one that was granted
	stale         bool          // sales may have been missed; true at first
	staleReason   error         // why; nil: the limit is still being read
	freshFor      time.Duration // how long the view counts as current without news of etcd
	newsAt        time.Duration // when there was news of etcd
	confirmedAt   time.Duration // a time at which etcd had nothing newer than the view
	lastSaleAt    time.Duration // when the last sale was seen
	jitter        time.Duration // how much longer to wait since then; see drawJitter
	notBefore     time.Duration // earliest next purchase, after one that failed or was lost
	backoff       retry.Backoff
	latency       time.Duration // of a purchase, a moving average
	purchaseCount int64         // purchases ever started
	satisfied     bool          // there was nothing to buy at the last check
	purchasing    bool
	pending       purchase      // the last one
	unanswered    []purchase    // earlier ones whose outcome is not known, of the ledger as it was seen last
	ledgerSentAt  time.Duration // when this agent sent the sale of the ledger; 0: it did not
	answerTime    time.Duration // of the last purchase whose tokens were void when etcd's answer came
	failure       error         // why the outcome of the last purchase is not known; nil: it is
	failedAt      time.Duration // when that was found
	lostPurchase  purchase      // the last that lost its compare; not repeated while the view is the same
	lostAt        time.Duration // when that was found
}

// newAccount returns the account of an agent that has seen nothing yet.
func newAccount(purchaserID string) account {
	return account{purchaserID: purchaserID, draw: rand.N[time.Duration], lifeBegan: unknownRevision, stale: true, pending: purchase{credited: true}}
}

// remembered returns what an account that was not used for long knows, for its next use.
func (a *account) remembered() account {
	r := newAccount(a.purchaserID)
	r.draw = a.draw
	r.policy, r.newest, r.bucket = a.policy, a.newest, a.bucket
	r.epoch, r.lifeBegan, r.ledger, r.listed, r.trusted = a.epoch, a.lifeBegan, a.ledger, a.listed, a.trusted
	r.voidAt, r.confirmedAt, r.purchaseCount = a.voidAt, a.confirmedAt, a.purchaseCount
	return r
}

// exists reports whether there is a limit that can be enforced.
func (a *account) exists() bool { return a.policy.Created != 0 && a.policy.err == nil }

// drawJitter returns a random time to wait, in addition to saleGap, between a sale and
// the next purchase.
func (a *account) drawJitter() time.Duration {
	contenders := a.contenders.count()
	if contenders == 1 {
		return minSlot
	}
	return a.draw(a.slot() * time.Duration(contenders))
}

// slot returns the contention window's width for each agent that buys. Chance decides who
// is next; two purchases race if less time is between them than a sale takes to be seen.
func (a *account) slot() time.Duration { return max(minSlot, min(a.latency, maxSlot)) }

// observeLatency averages in how long a purchase took. A long one, as on an agent that
// was paused, is capped: a high average makes an agent wait longer, so it buys rarely and
// would learn slowly that the latency is low again.
func (a *account) observeLatency(took time.Duration) { a.latency += min((took-a.latency)/4, minSlot) }

// confirm records that there is news of etcd, which had nothing newer than the view at
// confirmed. Without more news the view counts as current for freshFor.
func (a *account) confirm(now, confirmed, freshFor time.Duration) {
	a.newsAt, a.confirmedAt, a.freshFor = now, max(a.confirmedAt, confirmed), freshFor
	if !a.stale {
		return
	}
	a.stale, a.staleReason, a.failure, a.notBefore = false, nil, nil, 0 // etcd is back: buy without a further wait
	a.backoff.Reset()
}

// markStale records that the view is not kept current now, for a reason.
func (a *account) markStale(now time.Duration, reason error) {
	a.stale, a.staleReason = true, reason
	a.settle(now)
}

// checkFreshness makes the view stale if there was no news for longer than freshFor.
func (a *account) checkFreshness(now time.Duration) {
	if !a.stale && now-a.newsAt > a.freshFor {
		a.stale, a.staleReason = true, errNoNews
	}
}
