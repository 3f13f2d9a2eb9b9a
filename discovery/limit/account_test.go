package limit

import (
	"fmt"
	"math"
	"testing"
	"time"

	"disc/discovery"
)

// policyOf20 has a capacity of 15 and a horizon of 250 ms.
var policyOf20 = Policy{Limit: policy(20, 20), Created: 1, Revision: 1}

// opened is the ledger of a new limit.
var opened = storedLedger{openLedger("admin"), "{}", 1, 1}

// restedAccount returns an account of a new limit, whose view has just been confirmed.
func restedAccount(now time.Duration) account {
	a := newAccount("a")
	a.setPolicy(now, policyOf20)
	a.setLedger(now, opened)
	a.learnLife(now, 0, time.Time{})
	a.confirm(now, now, time.Minute)
	return a
}

// sold returns a ledger with tokens sold by another agent under a policy.
func sold(tokens int64, debt float64, policy, revision int64) storedLedger {
	return storedLedger{ledger{Sold: tokens, Sale: fmt.Sprint("b.", revision), Debt: debt, Policy: policy}, fmt.Sprint(revision), 1, revision}
}

// wantDebt fails the test unless the debt is what is wanted, in tokens.
func wantDebt(t *testing.T, a *account, now time.Duration, want float64) {
	t.Helper()
	if got := a.debt(now); math.Abs(got-want) > max(0.02, want/500) {
		t.Errorf("debt is %v, want %v", got, want)
	}
}

func TestNewLimitHasNoDebt(t *testing.T) {
	const now = time.Hour
	a := restedAccount(now)
	wantDebt(t, &a, now, -20*0.25)
	a.setPolicy(now, Policy{Revision: 5})
	a.setLedger(now, storedLedger{})
	a.setPolicy(now, Policy{Limit: policy(40, 40), Created: 6, Revision: 6})
	wantDebt(t, &a, now, 40) // until its ledger is seen
	a.setLedger(now, storedLedger{openLedger("admin"), "{}", 6, 6})
	wantDebt(t, &a, now, -40*0.25)
}

// A changed limit owes what it owed, but no more than its new burst; with it, what may be
// in use of the tokens before, and what drains until those are void.
func TestChangedPolicyOwesWhatItOwed(t *testing.T) {
	const now = time.Hour
	const inUse, void = 20 * 0.25, 0.25
	for name, c := range map[string]struct {
		sold   int64
		to     discovery.Limit
		debt   float64
		raised float64 // the debt after it was raised to 20 and a burst of 100 again
	}{
		"idle":          {0, policy(20, 20), inUse + 20*void, 3*inUse + 20*void},
		"in use":        {10, policy(20, 20), 10 + inUse + 20*void, 10 + 3*inUse + 20*void},
		"lowered":       {19, policy(10, 3), 3 + 10*void, 19 + inUse + 10*void + 10*0.15 + 20*void},
		"much faster":   {19, policy(1000, 20), 20 + 1000*void, 19 + inUse + 1000*void + 1000*0.01 + 20*void},
		"larger bursts": {19, policy(20, 500), 19 + inUse + 20*void, 19 + 3*inUse + 20*void},
	} {
		t.Run(name, func(t *testing.T) {
			a := restedAccount(now)
			a.setLedger(now, sold(c.sold, float64(c.sold), 1, 2))
			a.setPolicy(now, Policy{Limit: c.to, Created: 1, Revision: 5})
			wantDebt(t, &a, now, c.debt)
			a.setPolicy(now, Policy{Limit: policy(20, 1000), Created: 1, Revision: 6})
			if got := a.debt(now); math.Abs(got-c.raised) > 0.1*c.raised {
				t.Errorf("debt after it was raised is %v, want about %v", got, c.raised)
			}
		})
	}
}

// What drained since etcd last confirmed the policy may have drained too fast.
func TestUnconfirmedDrainIsOwed(t *testing.T) {
	const now = time.Hour
	a := restedAccount(now)
	a.setLedger(now, sold(20, 20, 1, 2))
	later := now + 500*time.Millisecond
	a.setPolicy(later, Policy{Limit: policy(1, 100), Created: 1, Revision: 5})
	wantDebt(t, &a, later, 20+20*0.25+0.25)
}

func TestUnknownSalesCountAsTheBurst(t *testing.T) {
	const now = time.Hour
	for name, next := range map[string]storedLedger{
		"deleted":     {},
		"fewer sales": {ledger{Sold: 4, Sale: "b.2", Debt: unknownDebt}, "y", 1, 10},
		"junk":        decodeLedger([]byte("junk"), 1, 10),
	} {
		t.Run(name, func(t *testing.T) {
			a := restedAccount(now)
			a.setLedger(now, sold(5, 5, 1, 2))
			a.setLedger(now, next)
			wantDebt(t, &a, now, 20)
		})
	}
	t.Run("never seen", func(t *testing.T) {
		a := newAccount("a")
		a.setPolicy(now, policyOf20)
		a.setLedger(now, sold(5, 5, 1, 2))
		a.confirm(now, now, time.Minute)
		wantDebt(t, &a, now, 40) // there may have been a policy before
	})
	t.Run("in another life", func(t *testing.T) {
		a := restedAccount(now)
		a.setLedger(now, sold(5, 5, 1, 2))
		a.replaceLedger(now, "another", true, sold(5, 5, 1, 2))
		a.forgetPolicy()
		a.setPolicy(now, policyOf20)
		wantDebt(t, &a, now, 40) // a policy may have been lost, too
	})
}

// An agent knows after a break, and after it was not used for long, what it knew before.
func TestBreaksForgetNothing(t *testing.T) {
	const now = time.Hour
	for name, lose := range map[string]func(a *account){
		"a break":  func(a *account) { a.markStale(now, errNoNews) },
		"eviction": func(a *account) { *a = a.remembered() },
	} {
		t.Run(name, func(t *testing.T) {
			a := restedAccount(now)
			a.setLedger(now, sold(5, 5, 1, 2))
			lose(&a)
			later := now + 200*time.Millisecond
			a.setLedger(later, sold(8, unknownDebt, 1, 4)) // three more tokens
			a.confirm(later, later, time.Minute)
			wantDebt(t, &a, later, 8-20*0.2)
		})
	}
}

// A limit of less than one token in ten minutes has drained since the last sale by the wall
// clock, which may be wrong by 30 s.
func TestSlowLimitOutlivesAllAgents(t *testing.T) {
	const now = time.Hour
	wall := time.Unix(1_800_000_000, 0)
	daily := Policy{Limit: policy(1.0/86400, 5), Created: 1, Revision: 1}
	before := sold(5, 5, 1, 2)
	for name, c := range map[string]struct {
		ago  time.Duration
		want float64
	}{
		"a day":         {24*time.Hour + 30*time.Second, 4},
		"no time":       {0, 5},
		"in the future": {-time.Hour, 5},
	} {
		t.Run(name, func(t *testing.T) {
			v := before
			v.At = wall.Add(-c.ago).Unix()
			a := newAccount("a")
			a.setPolicy(now, daily)
			a.setLedger(now, v)
			a.learnLife(now, 0, wall)
			wantDebt(t, &a, now, c.want)
		})
	}
	a := restedAccount(now)
	if p := a.startPurchase(now, 1, wall); p.nextLedger.At != 0 {
		t.Error("a fast limit's ledger has the wall clock's time")
	}
	a = newAccount("a")
	a.setPolicy(now, daily)
	a.setLedger(now, before)
	if p := a.startPurchase(now, 1, wall); p.nextLedger.At != wall.Unix()+1 {
		t.Errorf("a purchase of a slow limit was at %d, sent at %d", p.nextLedger.At, wall.Unix())
	}
}

func TestHorizonCountsFromTheSending(t *testing.T) {
	const sent = time.Hour
	a := restedAccount(sent)
	p := a.startPurchase(sent, 3, time.Time{})
	answered := sent + 100*time.Millisecond
	written := storedLedger{ledger: p.nextLedger, value: "x", createRevision: 2, modRevision: 2}
	a.purchaseCommitted(answered, p, written)
	if r := a.take(sent+a.horizon-1, 1); r.outcome != granted || r.sentAt != sent {
		t.Errorf("a take just before the horizon: %v of a purchase sent at %v, want it granted of one at %v", r.outcome, r.sentAt, sent)
	}
	if r := a.take(sent+a.horizon, 1); r.outcome == granted {
		t.Error("a take at the horizon is granted")
	}
}

// An agent that was started, or has seen sales late, owes no more than the others from the
// next sale on, unless that is of an earlier policy or has no debt.
func TestDebtOfThePurchaserIsTakenOver(t *testing.T) {
	const now = time.Hour
	for name, c := range map[string]struct {
		next storedLedger
		want float64
	}{
		"a sale":                {sold(103, 10, 1, 10), 10},
		"a higher debt":         {sold(103, 60, 1, 10), 43},
		"a sale without a debt": {sold(103, unknownDebt, 1, 10), 43},
		"of an earlier policy":  {sold(103, 10, 7, 10), 43},
		"of an earlier version": {sold(103, 10, 0, 10), 10},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAccount("a")
			a.setPolicy(now, policyOf20)
			a.setLedger(now, sold(100, 7, 1, 9))
			a.setLedger(now, c.next)
			wantDebt(t, &a, now, c.want)
		})
	}
	a := restedAccount(now)
	a.charge(now, 4)
	if p := a.startPurchase(now, 3, time.Time{}); math.Abs(p.nextLedger.Debt-7) > 0.001 {
		t.Errorf("a purchase of 3 with a debt of 4 has the debt %v", p.nextLedger.Debt)
	}
}

// A purchase that lost is repeated once the view is known to be etcd's.
func TestLostPurchaseIsRepeated(t *testing.T) {
	const now = time.Hour
	a := restedAccount(now)
	a.take(now, 1)
	a.enqueue(newWaiter(1))
	a.purchaseLost(now, a.startPurchase(now, 1, time.Time{}))
	later := now + time.Second
	if n, again := a.nextPurchase(later); n != 0 || again != never {
		t.Errorf("a purchase of %d, again at %v, while the view is the same", n, again)
	}
	a.confirm(later, later, time.Minute)
	if n, _ := a.nextPurchase(later); n != 1 {
		t.Errorf("a purchase of %d once the view is confirmed, want 1", n)
	}
}

// One purchase that etcd did not answer long ago does not let takes through uncounted.
func TestFailureIsForgotten(t *testing.T) {
	const now = time.Hour
	a := restedAccount(now)
	a.startPurchase(now, 1, time.Time{})
	a.purchaseFailed(now, errNoAnswer)
	if r := a.take(now, 1); r.outcome != unavailable {
		t.Errorf("a take just after the failure: %v, want unavailable", r.outcome)
	}
	later := now + failureTTL + time.Second
	a.startPurchase(later, 1, time.Time{})
	if r := a.take(later, 1); r.outcome != queued {
		t.Errorf("a take during a purchase long after it: %v, want queued", r.outcome)
	}
}

// A take that gives up lets those behind have what it did not get.
func TestAbandonedTakeServesTheNext(t *testing.T) {
	const now = time.Hour
	a := restedAccount(now)
	a.tokens.add(3, now)
	first, second := newWaiter(5), newWaiter(2)
	a.enqueue(first)
	a.enqueue(second)
	a.abandon(now, first)
	if len(second.result) != 1 || a.queued != 0 {
		t.Errorf("%d tokens are still queued for", a.queued)
	}
}

// A limit that was deleted is not there, also while etcd is away.
func TestDeletedWhileStale(t *testing.T) {
	const now = time.Hour
	a := restedAccount(now)
	a.setPolicy(now, Policy{Revision: 5})
	a.markStale(now, errNoNews)
	if r := a.take(now, 1); r.outcome != noLimit {
		t.Errorf("a take: %v, want that there is no limit", r.outcome)
	}
}

// An agent that stood still while it bought does not wait longer than others afterwards.
func TestOneSlowPurchaseCountsForLittle(t *testing.T) {
	const now = time.Hour
	a := restedAccount(now)
	p := a.startPurchase(now, 1, time.Time{})
	a.purchaseLost(now+2*time.Second, p)
	if got := a.slot(); got > 2*minSlot {
		t.Errorf("its slot is %v, and %v at best", got, minSlot)
	}
}
