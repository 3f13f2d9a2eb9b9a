package limit

import (
	"encoding/json"
	"strings"
)

// ledger is the state of a limit in etcd. It is JSON, for operators to read.
type ledger struct {
	Sold int64   `json:"sold"`          // tokens ever
	Sale string  `json:"sale"`          // id of the last sale: the buyer, a random text of each start of an agent, "." and a number
	Debt float64 `json:"debt,omitzero"` // tokens that the buyer owed with this sale; 0: it does not say
}

// storedLedger is a ledger as it stands in etcd. The zero value is that there is none.
type storedLedger struct {
	ledger
	value          string
	createRevision int64 // etcd's revisions
	modRevision    int64
}

// decodeLedger reads a ledger. What cannot be read counts as nothing sold: it is no
// continuation of what was seen before.
func decodeLedger(value []byte, created, modified int64) storedLedger {
	v := storedLedger{value: string(value), createRevision: created, modRevision: modified}
	if json.Unmarshal(value, &v.ledger) != nil || v.Sold < 0 {
		v.ledger = ledger{}
	}
	return v
}

// continues reports whether a ledger is that of an earlier version, with more sold.
func (v storedLedger) continues(earlier storedLedger) bool {
	return v.createRevision == earlier.createRevision && v.modRevision > earlier.modRevision && v.Sold >= earlier.Sold
}

// purchaserID is who has made the last sale.
func (v storedLedger) purchaserID() string {
	buyer, _, _ := strings.Cut(v.Sale, ".")
	return buyer
}
