package limit

import (
	"math"
	"time"
)

// setPolicy sets the policy as it is in etcd; without a Created, it was deleted at its
// Revision. A policy that was set before, as when this agent wrote it, changes nothing.
func (a *account) setPolicy(now time.Duration, p Policy) {
	if p.Revision <= a.newest {
		return
	}
	before := a.policy
	a.policy, a.newest = p, p.Revision
	a.tokens.clear()
	a.lostPurchase = purchase{}
	if p.Created != 0 && p.Created != before.Created {
		a.bucket = bucket{} // another limit
	}
	switch {
	case !a.exists():
	case a.burst == 0: // the first that can be enforced
		a.open(now)
	default:
		a.change(now, before.Revision)
	}
	a.settle(now)
}

// open begins the account of a limit.
func (a *account) open(now time.Duration) {
	extra := longestHorizon
	if a.neverChanged() {
		extra = 0
	}
	a.bucket = openBucket(now, parametersOf(a.policy.Limit), extra)
	a.voidAt = now + extra
	if !a.neverChanged() {
		a.forgetEarlier(now)
	}
	a.takeOverDebt(now)
}

// neverChanged reports whether the present policy is the only one that the limit ever had.
// An etcd that has started over may have lost a change.
func (a *account) neverChanged() bool {
	return a.policy.Created == a.policy.Revision && a.policy.Revision > a.lifeBegan
}

// change goes over from one policy of a limit, of a revision, to the next.
func (a *account) change(now time.Duration, from int64) {
	void := time.Duration(math.Ceil(float64(a.horizon) / drainFactor))
	if a.stale || a.policy.replaced != 0 && a.policy.replaced != from {
		void = longestHorizon // there may have been policies between the two
	}
	a.voidAt = max(a.voidAt, now+void)
	a.bucket.change(now, parametersOf(a.policy.Limit), max(0, now-a.confirmedAt), a.voidAt-now)
	a.takeOverDebt(now)
}

// takeOverDebt lowers the debt to that of the purchaser of the last sale, if it was sold
// under the present policy and seen as it came.
func (a *account) takeOverDebt(now time.Duration) {
	switch {
	case !a.trusted || !a.ledgerCovers():
	case a.ledger.Sold == 0: // not one token is in use
		a.lowerDebt(now, a.ledger.Debt-a.rate*a.horizon.Seconds())
	default:
		a.lowerDebt(now, a.ledger.Debt)
	}
}

// ledgerCovers reports whether the ledger gives the debt of a sale under the present policy.
func (a *account) ledgerCovers() bool {
	return a.exists() && a.ledger.covers(a.policy.Revision)
}

// lowerDebt lowers the debt to one that is known to be enough.
func (a *account) lowerDebt(now time.Duration, tokens float64) {
	a.capDebt(now, tokens)
	if a.neverChanged() && (a.ledger.Policy == a.policy.Revision || a.ledger.modRevision == a.policy.Revision) {
		a.uncapped = a.owed
	}
}

// setLedger sets the ledger. A ledger that was set before, as when this agent's purchase
// wrote it, changes nothing.
func (a *account) setLedger(now time.Duration, v storedLedger) {
	before := a.ledger
	if a.listed && v.modRevision != 0 && v.modRevision <= before.modRevision {
		return
	}
	a.ledger, a.lostPurchase = v, purchase{}
	switch {
	case !a.listed:
		a.listed = true
		if a.exists() {
			a.open(now)
		}
	case v.continues(before):
		a.charge(now, v.Sold-before.Sold)
		a.trusted = true
	default:
		a.fill(now, max(0, a.voidAt-now))
		a.trusted = true
	}
	a.takeOverDebt(now)
	if v.modRevision != 0 {
		a.contenders.observe(now, v.purchaserID())
	}
	a.lastSaleAt, a.jitter = now, a.drawJitter()
	a.creditSale(now, v.Sale) // the watch was faster than the answer, or there was none
	a.settle(now)
}

// replaceLedger sets the ledger of an etcd that an epoch identifies, as it was listed.
// startedOver reports that etcd was wiped, restored or replaced since the last list.
func (a *account) replaceLedger(now time.Duration, epoch string, startedOver bool, v storedLedger) {
	if startedOver || a.epoch != "" && a.epoch != epoch {
		a.ledger, a.listed, a.trusted, a.lifeBegan, a.unanswered = storedLedger{}, false, false, unknownRevision, nil
	}
	a.epoch = epoch
	a.setLedger(now, v)
}

// learnLife tells at which revision the present life of etcd began. What was written since
// then counts, although it was not seen as it was written. An account that knew it already
// has seen everything.
func (a *account) learnLife(now time.Duration, began int64, wall time.Time) {
	if a.lifeBegan != unknownRevision {
		return
	}
	a.lifeBegan = began
	a.trusted = a.trusted || a.ledger.modRevision > began
	if a.exists() {
		a.open(now)
	}
	if a.trusted && a.ledgerCovers() && a.rate < slowRate {
		a.lowerDebt(now, a.ledger.Debt-a.rate*drainFactor*a.ledger.drainedSince(wall).Seconds())
	}
	a.settle(now)
}

// forgetPolicy forgets the policy, since etcd has started over.
func (a *account) forgetPolicy() { a.policy, a.newest, a.lostPurchase = Policy{}, 0, purchase{} }
