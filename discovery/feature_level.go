package discovery

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"
)

// A feature level is what all agents of a namespace can read. The namespace has one, which only
// rises: agents write what a level adds once the namespace has that level. Each release that adds
// something which an earlier one drops or misreads has the next level.
const (
	// LevelFirst is the level of version 0.1.0, whose agents do not name a level.
	LevelFirst = 1
	// LevelLockBreaks adds the marks of broken locks. An agent below it does not tell the holder.
	LevelLockBreaks = 2
	// LevelJournal adds the journal of saved registrations in an agent's data directory. An agent
	// below it does not read the journal.
	LevelJournal = 2
	// LevelSuspectOrders adds the orders on suspects. An agent below it counts their keys as records
	// that cannot be read.
	LevelSuspectOrders = 2
	// OwnLevel is the level that agents of this version can read.
	OwnLevel = 2
)

// MaxBehind is the greatest number of agents that a [LevelRecord] names.
const MaxBehind = 20

// MaxLevelRecord is the greatest size in bytes of a [LevelRecord] in etcd.
const MaxLevelRecord = 64 << 10

// maxCount bounds the counts of a [LevelRecord], so that sums of them do not overflow.
const maxCount = 1 << 20

// LevelRecord is the value of [Keys.Level].
type LevelRecord struct {
	Level  int           `json:"level"`            // of the namespace
	Target int           `json:"target,omitempty"` // the level that it is to rise to; 0: none
	Clean  int           `json:"clean,omitempty"`  // checks in a row that found no agent below Target
	Behind []BehindAgent `json:"behind,omitempty"` // at most MaxBehind agents below the newest level, seen in the last day
	More   int           `json:"more,omitempty"`   // further ones that were there at the last check

	unknown map[string]json.RawMessage // fields of a later version
}

// BehindAgent is an agent that cannot read the newest level.
type BehindAgent struct {
	Node    string    `json:"node"`
	Agent   string    `json:"agent"` // the owner id of its records
	Version string    `json:"version,omitempty"`
	Level   int       `json:"level"`
	Seen    time.Time `json:"seen"` // at the last check that found it, by the checker's clock
}

// validate checks the texts, by the rules of a [Node].
func (b BehindAgent) validate() error {
	return errors.Join(ValidateNode(b.Node), validateText("agent", b.Agent), validateText("version", b.Version))
}

// DecodeLevel decodes the value of [Keys.Level], and remembers fields that this version does not
// know. Entries of Behind that are not valid are left out. A value that is not valid, or has more than
// [MaxLevelRecord] bytes, is an [ErrInvalid].
func DecodeLevel(value []byte) (LevelRecord, error) {
	var r LevelRecord
	if len(value) > MaxLevelRecord {
		return LevelRecord{}, Errorf(ErrInvalid, "decode feature level: it has %d bytes; at most %d are allowed", len(value), MaxLevelRecord)
	}
	if err := json.Unmarshal(value, &r); err != nil {
		return LevelRecord{}, Errorf(ErrInvalid, "decode feature level: %v", err)
	}
	if r.Level < LevelFirst || r.Target < 0 || r.Clean < 0 || r.More < 0 {
		return LevelRecord{}, Errorf(ErrInvalid, "decode feature level: a number is out of range")
	}
	if err := json.Unmarshal(value, &r.unknown); err != nil {
		return LevelRecord{}, Errorf(ErrInvalid, "decode feature level: %v", err)
	}
	for _, known := range []string{"level", "target", "clean", "behind", "more"} {
		delete(r.unknown, known)
	}
	r.Clean, r.More = min(r.Clean, maxCount), min(r.More, maxCount)
	r.Behind = slices.DeleteFunc(r.Behind, func(b BehindAgent) bool { return b.validate() != nil })
	r.Behind = r.Behind[:min(len(r.Behind), MaxBehind)]
	return r, nil
}

// Encode returns the record as etcd stores it, with the fields that this version does not know.
func (r LevelRecord) Encode() []byte {
	known := encode(r)
	if len(r.unknown) == 0 {
		return known
	}
	all := maps.Clone(r.unknown)
	if err := json.Unmarshal(known, &all); err != nil {
		panic(err) // encode returns an object
	}
	return encode(all)
}
