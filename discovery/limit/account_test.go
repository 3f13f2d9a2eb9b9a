package limit

import (
	"math"
	"testing"
	"time"
)

// policyOf20 has a capacity of 15 and a horizon of 250 ms.
const policyOf20 = `{"rate":20,"per":"1s","burst":20,"on_unavailable":"deny"}`

// begun is an account at rest: its debt is drained and it has just heard of etcd.
func begun(now time.Duration) account {
	a := newAccount("a")
	a.setLedger(now, version{})
	a.setPolicy(now, []byte(policyOf20), 1)
	a.confirm(now)
	a.clear, a.confirmed = now, now
	return a
}

// wantDebt says how much debt there must be at least, in tokens.
func wantDebt(t *testing.T, a *account, now time.Duration, least float64) {
	t.Helper()
	debt := max(0, a.clear-now).Seconds() * a.rate * drained
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
			a.lose(now)
			a.confirm(now)
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := begun(now)
			change(&a)
			wantDebt(t, &a, now, a.capacity+a.rate*longestHorizon.Seconds())
		})
	}
}

func TestUnknownSalesCountAsFullDebt(t *testing.T) {
	const now = time.Hour
	sold := version{ledger: ledger{Sold: 5, Sale: "b.1"}, value: "x", created: 2, modified: 9}
	for name, next := range map[string]version{
		"deleted":     {},
		"made again":  {ledger: ledger{Sold: 6, Sale: "b.2"}, value: "y", created: 10, modified: 10},
		"fewer sales": {ledger: ledger{Sold: 4, Sale: "b.2"}, value: "y", created: 2, modified: 10},
	} {
		t.Run(name, func(t *testing.T) {
			a := begun(now)
			a.ledger = sold
			a.setLedger(now, next)
			wantDebt(t, &a, now, a.capacity)
		})
	}
	t.Run("blind", func(t *testing.T) {
		a := begun(now)
		a.ledger = sold
		a.lose(now)
		a.confirm(now)
		wantDebt(t, &a, now, a.capacity)
	})
	t.Run("nothing heard", func(t *testing.T) {
		a := begun(now)
		a.ledger = sold
		later := now + trusted + 1
		a.confirm(later)
		wantDebt(t, &a, later, a.capacity)
	})
}

func TestHorizonCountsFromTheSending(t *testing.T) {
	const sent = time.Hour
	a := begun(sent)
	o := a.order(sent, 3)
	answered := sent + 100*time.Millisecond
	is := version{ledger: o.next, value: "x", created: 2, modified: 2}
	a.bought(answered, o, is)
	until, ok := a.hand.take(answered, 1)
	if !ok || until != sent+a.horizon {
		t.Errorf("token good until %v after the sending (%v), want %v", until-sent, ok, a.horizon)
	}
}

// Who was started, or has seen sales late, owes no more than the others from the next sale
// on; but for one of an earlier policy, one that does not say, and one after a gap.
func TestDebtOfTheBuyerIsTakenOver(t *testing.T) {
	const now = time.Hour
	before := version{ledger: ledger{Sold: 100, Sale: "b.1", Debt: 7}, value: "x", created: 2, modified: 9}
	for name, c := range map[string]struct {
		next version
		want float64
	}{
		"a sale":                    {version{ledger{103, "b.2", 10}, "y", 2, 10}, 10},
		"a higher debt":             {version{ledger{103, "b.2", 40}, "y", 2, 10}, 18},
		"a buyer that does not say": {version{ledger{103, "b.2", 0}, "y", 2, 10}, 18},
		"of an earlier policy":      {version{ledger{103, "b.2", 10}, "y", 2, 1}, 18},
		"of a ledger made again":    {version{ledger{103, "b.2", 10}, "y", 10, 10}, 15},
	} {
		t.Run(name, func(t *testing.T) {
			a := begun(now)
			a.ledger = before
			if c.next.modified == 1 {
				a.ledger.modified = 0
			}
			a.fill(now, 0)
			a.setLedger(now, c.next)
			if got := a.debt(now); math.Abs(got-c.want) > 0.001 {
				t.Errorf("debt is %v, want %v", got, c.want)
			}
		})
	}
	a := begun(now)
	a.charge(now, 4)
	if o := a.order(now, 3); math.Abs(o.next.Debt-7) > 0.001 {
		t.Errorf("an order of 3 with a debt of 4 says %v", o.next.Debt)
	}
}

// An agent that stood still while it bought does not wait for longer than others from then
// on.
func TestOneSlowPurchaseCountsForLittle(t *testing.T) {
	const now = time.Hour
	a := begun(now)
	o := a.order(now, 1)
	a.lost(now+2*time.Second, o)
	if got := a.turn(); got > 2*turn {
		t.Errorf("its turn is %v, and %v at best", got, turn)
	}
}
