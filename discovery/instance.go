package discovery

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Status is the health of an instance: the worst of its checks, passing with none.
type Status string

// The statuses, from best to worst.
const (
	Passing  Status = "passing"
	Warning  Status = "warning"
	Critical Status = "critical"
)

// Validate returns an [ErrInvalid] unless s is one of the statuses.
func (s Status) Validate() error {
	if s.rank() < 0 {
		return Errorf(ErrInvalid, "status %q is unknown; use passing, warning or critical", string(s))
	}
	return nil
}

func (s Status) rank() int { return slices.Index([]Status{Passing, Warning, Critical}, s) }

// Worst returns the worst of statuses; passing when there are none.
func Worst(statuses ...Status) Status {
	worst := Passing
	for _, s := range statuses {
		if s.rank() > worst.rank() {
			worst = s
		}
	}
	return worst
}

// State is the operator's wish for an instance: whether lookups answer with it.
type State string

// The states.
const (
	Up    State = "up"    // answered according to its status
	Drain State = "drain" // no new callers: answered only with the status filter any
	Down  State = "down"  // never answered
)

// Validate returns an [ErrInvalid] unless s is one of the states.
func (s State) Validate() error {
	switch s {
	case Up, Drain, Down:
		return nil
	}
	return Errorf(ErrInvalid, "state %q is unknown; use up, drain or down", string(s))
}

// Limits of an instance.
const (
	MaxWeight = 65535    // as in an SRV record (RFC 2782)
	MaxSlots  = 4096     // claims on an instance at the same time
	MaxTags   = 64       // tags of an instance
	MaxMeta   = 64       // meta keys of an instance
	MaxRecord = 64 << 10 // bytes of a record in etcd, without the outputs of its checks

	maxDecodedRecord = 1 << 20 // bytes of a record that is decoded: far above MaxRecord, for other writers
)

type (
	// Tags are an instance's tags; in JSON, [] when there are none, never null.
	Tags []string
	// Ports are an instance's ports by name; in JSON, {} when there are none, never null.
	Ports map[string]int
	// Meta is an instance's metadata; in JSON, {} when there is none, never null.
	Meta map[string]string
)

// MarshalJSON writes [] for no tags.
func (t Tags) MarshalJSON() ([]byte, error) {
	if t == nil {
		return []byte("[]"), nil
	}
	return json.Marshal([]string(t))
}

// MarshalJSON writes {} for no ports.
func (p Ports) MarshalJSON() ([]byte, error) {
	if p == nil {
		return []byte("{}"), nil
	}
	return json.Marshal(map[string]int(p))
}

// MarshalJSON writes {} for no meta.
func (m Meta) MarshalJSON() ([]byte, error) {
	if m == nil {
		return []byte("{}"), nil
	}
	return json.Marshal(map[string]string(m))
}

// CheckStatus is the state of one check in a record.
type CheckStatus struct {
	ID     string    `json:"id"`
	Name   string    `json:"name,omitempty"`
	Type   CheckType `json:"type"`
	Status Status    `json:"status"`

	// Output is the begin of what the check said when it got this status, see [CheckOutput]; "" while
	// it passes. It is for people, and does not change as long as the status stays, the check is as it
	// is and its agent runs. That agent has its newest output, in full.
	Output string `json:"output,omitempty"`
}

// Instance is one running copy of a service. It is the record that an agent writes to
// etcd, or a static entry. Decoding ignores unknown fields.
type Instance struct {
	Service      string        `json:"service"` // as the registrant spelled it
	ID           string        `json:"id"`
	Node         string        `json:"node,omitempty"`
	Address      string        `json:"address"` // an IP address or a host name
	Port         int           `json:"port"`    // 0: none
	Ports        Ports         `json:"ports"`
	Zone         string        `json:"zone,omitempty"`
	Weight       int           `json:"weight"` // 0 to MaxWeight; 0: answered only when all others are out
	Tags         Tags          `json:"tags"`
	Meta         Meta          `json:"meta"`
	Status       Status        `json:"status"`
	Checks       []CheckStatus `json:"checks,omitempty"`
	Slots        int           `json:"slots"`           // claims at the same time, 1 to MaxSlots
	Owner        string        `json:"owner,omitempty"` // id of the agent that registered it
	Run          string        `json:"run,omitempty"`   // id of that agent's run
	RegisteredAt time.Time     `json:"registered_at,omitzero"`
	Leaving      bool          `json:"leaving,omitempty"` // a tombstone: its agent deregistered it

	// DeregisterAfter is how long the instance may be critical until its agent deregisters it; 0: for
	// ever. It is for people.
	DeregisterAfter Duration `json:"deregister_after,omitempty"`
}

// DecodeInstance decodes a record. Absent fields get their defaults: weight and slots 1,
// status passing. The address gets its canonical form, see [CanonicalAddress]. A record that is not valid JSON or not a valid instance is an
// [ErrInvalid].
func DecodeInstance(record []byte) (Instance, error) {
	var i Instance
	err := DecodeInstanceLike(record, &i, &Instance{})
	return i, err
}

// DecodeInstanceLike decodes a record into to, as [DecodeInstance] does, and shares the
// strings, lists and maps that are equal in like, to save memory. On error, to is the zero
// Instance.
func DecodeInstanceLike(record []byte, to, like *Instance) error {
	err := readInstance(record, to, like)
	if err != nil {
		*to = Instance{}
	}
	return err
}

func readInstance(record []byte, to, like *Instance) error {
	if len(record) > maxDecodedRecord {
		return Errorf(ErrInvalid, "decode record: it has %d bytes; at most %d are allowed", len(record), maxDecodedRecord)
	}
	if !decodeCanonical(record, to, like) {
		*to = Instance{Weight: 1, Slots: 1, Status: Passing}
		if err := json.Unmarshal(record, to); err != nil {
			return Errorf(ErrInvalid, "decode record: %v", err)
		}
	}
	if err := to.ValidateStored(); err != nil {
		return err
	}
	to.Address = CanonicalAddress(to.Address)
	to.cutOutputs()
	to.dropEmpty()
	return nil
}

// cutOutputs cuts the outputs of checks to what an agent writes: another writer's may fill the record,
// and would be held, answered and adopted in full.
func (i *Instance) cutOutputs() {
	for n := range i.Checks {
		c := &i.Checks[n]
		if c.Output == "" { // nearly all
			continue
		}
		if cut := CheckOutput(c.Output); cut != c.Output { // so it is not shared with another instance
			c.Output = cut
		}
	}
}

// dropEmpty sets empty lists and maps to nil, so that they take no memory and equal
// records decode to equal instances.
func (i *Instance) dropEmpty() {
	if len(i.Ports) == 0 {
		i.Ports = nil
	}
	if len(i.Tags) == 0 {
		i.Tags = nil
	}
	if len(i.Meta) == 0 {
		i.Meta = nil
	}
	if len(i.Checks) == 0 {
		i.Checks = nil
	}
}

// Encode returns the record of the instance.
func (i Instance) Encode() []byte {
	return encode(i)
}

// Validate returns an [ErrInvalid] that names everything wrong with an instance that is to be
// written: what [Instance.ValidateStored] refuses, an address that is none (see
// [ValidateAddress]) and control characters (see [IsControl]).
func (i Instance) Validate() error {
	return errors.Join(i.ValidateStored(), i.validateWritten())
}

// ValidateStored returns an [ErrInvalid] that names everything wrong with an instance that is
// in etcd or in a data directory. It accepts all that an earlier version wrote, so that no
// record vanishes by an upgrade.
func (i Instance) ValidateStored() error {
	return errors.Join(
		ValidateService(i.Service),
		ValidateID(i.ID),
		i.validateNode(),
		validateStoredAddress(i.Address),
		validatePort("port", i.Port, 0),
		validateRange("weight", i.Weight, 0, MaxWeight),
		validateRange("slots", i.Slots, 1, MaxSlots),
		validateText("zone", i.Zone),
		i.Status.Validate(),
		validateTags(i.Tags),
		validateMeta(i.Meta),
		validatePorts(i.Ports),
	)
}

// validateWritten is what [Instance.Validate] demands beyond [Instance.ValidateStored].
func (i Instance) validateWritten() error {
	var errs []error
	if validateStoredAddress(i.Address) == nil {
		errs = append(errs, validateWrittenAddress(i.Address))
	}
	if validateText("zone", i.Zone) == nil {
		errs = append(errs, validateNoControl("zone", i.Zone))
	}
	return errors.Join(append(errs, validateWrittenMeta(i.Meta))...)
}

// validateNode allows an empty node: static entries have none.
func (i Instance) validateNode() error {
	if i.Node == "" {
		return nil
	}
	return ValidateNode(i.Node)
}

func validatePort(what string, n, least int) error { return validateRange(what, n, least, 65535) }

func validatePorts(ports Ports) error {
	var errs []error
	for name, port := range ports {
		if err := errors.Join(validatePortName(name), validatePort("port "+name, port, 1)); err != nil {
			errs = append(errs, err)
		}
	}
	return joinSorted(errs)
}

// joinSorted joins the errors of a map's elements in a stable order: by their texts.
func joinSorted(errs []error) error {
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

func validateRange(what string, n, least, most int) error {
	if n < least || n > most {
		return Errorf(ErrInvalid, "%s %d is out of range; use %d to %d", what, n, least, most)
	}
	return nil
}

func validateTags(tags []string) error {
	var errs []error
	if len(tags) > MaxTags {
		errs = append(errs, Errorf(ErrInvalid, "%d tags are too many; at most %d are allowed", len(tags), MaxTags))
	}
	for _, t := range tags {
		if err := ValidateTag(t); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func validateMeta(meta map[string]string) error {
	var errs []error
	if len(meta) > MaxMeta {
		errs = append(errs, Errorf(ErrInvalid, "%d meta keys are too many; at most %d are allowed", len(meta), MaxMeta))
	}
	for key, value := range meta {
		if !isMetaKey(key) {
			errs = append(errs, Errorf(ErrInvalid, "meta key %.40q is empty, too long or has control characters", key))
		}
		if len(value) > 4096 {
			errs = append(errs, Errorf(ErrInvalid, "meta %q has %d bytes; at most 4096 are allowed", key, len(value)))
		}
	}
	return joinSorted(errs)
}

// isMetaKey reports whether a key of meta in a record is valid.
func isMetaKey(key string) bool {
	return key != "" && len(key) <= MaxID && !strings.ContainsFunc(key, unicode.IsControl)
}

// validateWrittenMeta is what meta must be that is written, beyond [validateMeta].
func validateWrittenMeta(meta map[string]string) error {
	var errs []error
	for key, value := range meta {
		if _, found := findControl(key); found && isMetaKey(key) {
			errs = append(errs, validateNoControl(fmt.Sprintf("meta key %.40q", key), key))
		}
		errs = append(errs, validateNoControl(fmt.Sprintf("meta %.40q", key), value))
	}
	return joinSorted(slices.DeleteFunc(errs, func(err error) bool { return err == nil }))
}

// StatusFilter selects the statuses and states that a lookup answers with.
type StatusFilter string

// The status filters.
const (
	StatusHealthy  StatusFilter = ""         // not critical, state up
	StatusPassing  StatusFilter = "passing"  // passing, state up
	StatusWarning  StatusFilter = "warning"  // warning, state up
	StatusCritical StatusFilter = "critical" // critical, state up
	StatusAny      StatusFilter = "any"      // any status, state up or drain
)

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // no type that is encoded here can fail
	}
	return b
}
