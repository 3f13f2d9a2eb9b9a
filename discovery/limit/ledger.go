package limit

import (
	"encoding/json"
	"strings"
)

// ledger is the value of a limit's ledger key. It is JSON, so that operators can read it.
type ledger struct {
	Sold int64   `json:"sold"`          // tokens ever sold
	Sale string  `json:"sale"`          // id of the last sale: the purchaser's id, which is random for each start of an agent, "." and a number
	Debt float64 `json:"debt,omitzero"` // the purchaser's, in tokens, with this sale; 0: not given
}

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
	v := storedLedger{value: string(value), createRevision: created, modRevision: modified}
	if json.Unmarshal(value, &v.ledger) != nil || v.Sold < 0 {
		v.ledger = ledger{}
	}
	return v
}

// continues reports whether v is a later version of an earlier ledger, with as much sold
// or more.
func (v storedLedger) continues(earlier storedLedger) bool {
	return v.createRevision == earlier.createRevision && v.modRevision > earlier.modRevision && v.Sold >= earlier.Sold
}

// purchaserID returns the id of the agent that made the last sale.
func (v storedLedger) purchaserID() string {
	id, _, _ := strings.Cut(v.Sale, ".")
	return id
}
