package discovery

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Node is the record of one agent on a node.
type Node struct {
	Node    string    `json:"node"`
	Agent   string    `json:"agent"` // the owner id of its records
	Version string    `json:"version,omitempty"`
	Address string    `json:"address,omitempty"` // the advertised address
	Zone    string    `json:"zone,omitempty"`
	Started time.Time `json:"started,omitzero"`
	Level   int       `json:"level,omitempty"` // the feature level that the agent can read; absent: [LevelFirst]
}

// ReadableLevel returns the feature level that the agent can read, at least [LevelFirst].
func (n Node) ReadableLevel() int { return max(n.Level, LevelFirst) }

// DecodeNode decodes the record of an agent on a node, ignoring unknown fields. The
// address gets its canonical form. A record that is not valid is an [ErrInvalid].
func DecodeNode(record []byte) (Node, error) {
	var n Node
	if err := json.Unmarshal(record, &n); err != nil {
		return Node{}, Errorf(ErrInvalid, "decode node: %v", err)
	}
	if err := n.Validate(); err != nil {
		return Node{}, fmt.Errorf("decode node: %w", err)
	}
	n.Address = CanonicalAddress(n.Address)
	return n, nil
}

// Encode returns the record as etcd stores it.
func (n Node) Encode() []byte { return encode(n) }

// Validate returns an [ErrInvalid] that names everything wrong with the record.
func (n Node) Validate() error {
	errs := []error{ValidateNode(n.Node), validateText("version", n.Version), validateText("zone", n.Zone)}
	if n.Address != "" {
		errs = append(errs, validateStoredAddress(n.Address))
	}
	return errors.Join(errs...)
}
