package limit

import (
	"math"
	"testing"
	"time"
)

// policyOf20 has a capacity of 15 and a horizon of 250 ms.
const policyOf20 = `{"rate":20,"per":"1s","burst":20,"on_unavailable":"deny"}`

// restedAccount returns an account without debt whose view has just been confirmed.
func restedAccount(now time.Duration) account {
	a := newAccount("a")
	a.setLedger(now, storedLedger{})
	a.setPolicy(now, []byte(policyOf20), 1)
	a.confirm(now)
	a.drainedAt, a.confirmedAt = now, now
	return a
}

// wantDebtAtLeast fails the test if the debt is less, in tokens.
func wantDebtAtLeast(t *testing.T, a *account, now time.Duration, least float64) {
	t.Helper()
	debt := max(0, a.drainedAt-now).Seconds() * a.rate * drainFactor
	if debt < least-0.001 {
		t.Errorf("debt is %v, want at least %v", debt, least)
	}
}

func TestPolicyBeginsWithDebt(t *testing.T) {
	const now = time.Hour
	for name, change := range map[string]func(a *account){
		"changed": func(a *account) {
			a.setPolicy(now, []byte(`{"rate":40,"per":"1s","burst":40,"on_unavailable":"deny"}`), 5)
		},
		"deleted and made again": func(a *account) {
			a.setPolicy(now, nil, 5)
			a.setPolicy(now, []byte(policyOf20), 6)
		},
		"seen again, with nothing sold": func(a *account) {
			a.markStale(now)
			a.confirm(now)
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := restedAccount(now)
			change(&a)
			wantDebtAtLeast(t, &a, now, a.capacity+a.rate*longestHorizon.Seconds())
		})
	}
}

func TestUnknownSalesCountAsFullDebt(t *testing.T) {
	const now = time.Hour
	sold := storedLedger{ledger: ledger{Sold: 5, Sale: "b.1"}, value: "x", createRevision: 2, modRevision: 9}
	for name, next := range map[string]storedLedger{
		"deleted":     {},
		"made again":  {ledger: ledger{Sold: 6, Sale: "b.2"}, value: "y", createRevision: 10, modRevision: 10},
		"fewer sales": {ledger: ledger{Sold: 4, Sale: "b.2"}, value: "y", createRevision: 2, modRevision: 10},
	} {
		t.Run(name, func(t *testing.T) {
			a := restedAccount(now)
			a.ledger = sold
			a.setLedger(now, next)
			wantDebtAtLeast(t, &a, now, a.capacity)
		})
	}
	t.Run("stale", func(t *testing.T) {
		a := restedAccount(now)
		a.ledger = sold
		a.markStale(now)
		a.confirm(now)
		wantDebtAtLeast(t, &a, now, a.capacity)
	})
	t.Run("not confirmed", func(t *testing.T) {
		a := restedAccount(now)
		a.ledger = sold
		later := now + freshFor + 1
		a.confirm(later)
		wantDebtAtLeast(t, &a, later, a.capacity)
	})
}

func TestHorizonCountsFromTheSending(t *testing.T) {
	const sent = time.Hour
	a := restedAccount(sent)
	p := a.startPurchase(sent, 3)
	answered := sent + 100*time.Millisecond
	written := storedLedger{ledger: p.nextLedger, value: "x", createRevision: 2, modRevision: 2}
	a.purchaseCommitted(answered, p, written)
	until, ok := a.tokens.take(answered, 1)
	if !ok || until != sent+a.horizon {
		t.Errorf("token good until %v after the sending (%v), want %v", until-sent, ok, a.horizon)
	}
}

// An agent that was started, or has seen sales late, owes no more than the others from the
// next sale on, unless that is of an earlier policy, has no debt, or comes after a gap.
func TestDebtOfThePurchaserIsTakenOver(t *testing.T) {
	const now = time.Hour
	before := storedLedger{ledger: ledger{Sold: 100, Sale: "b.1", Debt: 7}, value: "x", createRevision: 2, modRevision: 9}
	for name, c := range map[string]struct {
		next storedLedger
		want float64
	}{
		"a sale":                 {storedLedger{ledger{103, "b.2", 10}, "y", 2, 10}, 10},
		"a higher debt":          {storedLedger{ledger{103, "b.2", 40}, "y", 2, 10}, 18},
		"a sale without a debt":  {storedLedger{ledger{103, "b.2", 0}, "y", 2, 10}, 18},
		"of an earlier policy":   {storedLedger{ledger{103, "b.2", 10}, "y", 2, 1}, 18},
		"of a ledger made again": {storedLedger{ledger{103, "b.2", 10}, "y", 10, 10}, 15},
	} {
		t.Run(name, func(t *testing.T) {
			a := restedAccount(now)
			a.ledger = before
			if c.next.modRevision == 1 {
				a.ledger.modRevision = 0
			}
			a.fill(now, 0)
			a.setLedger(now, c.next)
			if got := a.debt(now); math.Abs(got-c.want) > 0.001 {
				t.Errorf("debt is %v, want %v", got, c.want)
			}
		})
	}
	a := restedAccount(now)
	a.charge(now, 4)
	if p := a.startPurchase(now, 3); math.Abs(p.nextLedger.Debt-7) > 0.001 {
		t.Errorf("a purchase of 3 with a debt of 4 has the debt %v", p.nextLedger.Debt)
	}
}

// An agent that stood still while it bought does not wait longer than others afterwards.
func TestOneSlowPurchaseCountsForLittle(t *testing.T) {
	const now = time.Hour
	a := restedAccount(now)
	p := a.startPurchase(now, 1)
	a.purchaseLost(now+2*time.Second, p)
	if got := a.slot(); got > 2*minSlot {
		t.Errorf("its slot is %v, and %v at best", got, minSlot)
	}
}
