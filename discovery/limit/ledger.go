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

// version is a ledger as it stands in etcd. The zero value is that there is none.
type version struct {
	ledger
	value    string
	created  int64 // etcd's revisions
	modified int64
}

// versionOf reads a ledger. What cannot be read counts as nothing sold: it is no
// continuation of what was seen before.
func versionOf(value []byte, created, modified int64) version {
	v := version{value: string(value), created: created, modified: modified}
	if json.Unmarshal(value, &v.ledger) != nil || v.Sold < 0 {
		v.ledger = ledger{}
	}
	return v
}

// continues reports whether a ledger is that of an earlier version, with more sold.
func (v version) continues(earlier version) bool {
	return v.created == earlier.created && v.modified > earlier.modified && v.Sold >= earlier.Sold
}

// buyer is who has made the last sale.
func (v version) buyer() string {
	buyer, _, _ := strings.Cut(v.Sale, ".")
	return buyer
}
