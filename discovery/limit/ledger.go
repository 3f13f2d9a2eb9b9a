package limit

import (
	"encoding/json"
	"strings"
	"time"
)

// unknownDebt is the debt of a ledger that does not give one.
const unknownDebt = -1

// ledger is the value of a limit's ledger key. It is JSON, so that operators can read it.
type ledger struct {
	Sold   int64   `json:"sold"`            // tokens ever sold
	Sale   string  `json:"sale"`            // id of the last sale: the purchaser's id, which is random for each start of an agent, "." and a number
	Debt   float64 `json:"debt"`            // the purchaser's, in tokens, with this sale
	Policy int64   `json:"policy,omitzero"` // etcd's revision of the policy of the sale; 0: that of the ledger
	At     int64   `json:"at,omitzero"`     // when the sale was sent, by the purchaser's wall clock, in Unix seconds; of slow limits only
}

// openLedger returns the ledger of a new limit, of which nothing was sold. It is written
// with the policy.
func openLedger(writer string) ledger { return ledger{Sale: writer + ".0"} }

// storedLedger is a ledger as it is in etcd. The zero value means that there is none.
type storedLedger struct {
	ledger
	value          string
	createRevision int64 // etcd's revisions
	modRevision    int64
}

// decodeLedger decodes a ledger. One that cannot be read counts as nothing sold: it does
// not continue the ledger seen before.
func decodeLedger(value []byte, created, modified int64) storedLedger {
	v := storedLedger{ledger{Debt: unknownDebt}, string(value), created, modified}
	if json.Unmarshal(value, &v.ledger) != nil || v.Sold < 0 {
		v.ledger = ledger{Debt: unknownDebt}
	}
	return v
}

// continues reports whether v is a later version of an earlier ledger, with as much sold
// or more.
func (v storedLedger) continues(earlier storedLedger) bool {
	return v.createRevision == earlier.createRevision && v.modRevision > earlier.modRevision && v.Sold >= earlier.Sold
}

// covers reports whether the ledger gives the debt of a sale under a policy. An agent of an
// earlier version does not say which policy it was.
func (v storedLedger) covers(policy int64) bool {
	if v.Debt == unknownDebt || v.modRevision == 0 {
		return false
	}
	return v.Policy == policy || v.Policy == 0 && v.modRevision >= policy
}

// purchaserID returns the id of the agent that made the last sale.
func (v storedLedger) purchaserID() string {
	id, _, _ := strings.Cut(v.Sale, ".")
	return id
}

// drainedSince returns for how long the debt of a slow limit's ledger has certainly drained,
// by this host's wall clock.
func (v storedLedger) drainedSince(wall time.Time) time.Duration {
	if v.At == 0 {
		return 0
	}
	return max(0, wall.Sub(time.Unix(v.At, 0))-wallClockError)
}
