package discovery

import (
	"encoding/json"
	"errors"
	"time"
)

// The orders on a suspect, which is an instance that vanished together with many others and is
// still answered.
const (
	DropSuspect = "drop" // answer it no more
	KeepSuspect = "keep" // answer it while the order is there and it has not returned, whatever a probe finds
)

// Bounds of orders on suspects.
const (
	// SuspectDropTTL is the time for which an order to drop stays in etcd. An agent that is
	// cut off from etcd for longer does not learn of it.
	SuspectDropTTL = 5 * time.Minute
	// MaxSuspectKeep is the longest time for which an order keeps a suspect.
	MaxSuspectKeep = 24 * time.Hour
)

// SuspectOrder is the value of [Keys.SuspectOrder].
type SuspectOrder struct {
	Order string    `json:"order"`          // [DropSuspect] or [KeepSuspect]
	By    string    `json:"by,omitempty"`   // who gave it
	At    time.Time `json:"at,omitzero"`    // by the clock of the host that wrote it
	Until time.Time `json:"until,omitzero"` // by that clock; the lease decides
}

// DecodeSuspectOrder decodes an order as etcd stores it, ignoring unknown fields. One that is not
// valid is an [ErrInvalid].
func DecodeSuspectOrder(record []byte) (SuspectOrder, error) {
	var o SuspectOrder
	if err := json.Unmarshal(record, &o); err != nil {
		return SuspectOrder{}, Errorf(ErrInvalid, "decode order on a suspect: %v", err)
	}
	return o, o.Validate()
}

// Encode returns the order as etcd stores it.
func (o SuspectOrder) Encode() []byte { return encode(o) }

// Validate returns an [ErrInvalid] that names everything wrong with the order.
func (o SuspectOrder) Validate() error {
	errs := []error{validateText("by", o.By)}
	if o.Order != DropSuspect && o.Order != KeepSuspect {
		errs = append(errs, Errorf(ErrInvalid, "order %.20q is unknown; use %s or %s", o.Order, DropSuspect, KeepSuspect))
	}
	return errors.Join(errs...)
}
