package discovery

import (
	"encoding/json"
	"errors"
	"maps"
)

// Override is an operator's lasting edit of an instance. Absent fields leave the record's
// values.
type Override struct {
	State  State `json:"state,omitempty"`
	Weight *int  `json:"weight,omitempty"`
	Tags   Tags  `json:"tags,omitzero"` // replace the record's; nil: keep them
	Meta   Meta  `json:"meta,omitempty"`
}

// DecodeOverride decodes an override as etcd stores it, ignoring unknown fields. One that
// is not valid is an [ErrInvalid].
func DecodeOverride(record []byte) (Override, error) {
	var o Override
	if err := json.Unmarshal(record, &o); err != nil {
		return Override{}, Errorf(ErrInvalid, "decode override: %v", err)
	}
	return o, o.ValidateStored()
}

// Encode returns the override as etcd stores it.
func (o Override) Encode() []byte { return encode(o) }

// Validate returns an [ErrInvalid] that names everything wrong with an override that is to be
// written: what [Override.ValidateStored] refuses, and control characters (see [IsControl]).
func (o Override) Validate() error {
	return errors.Join(o.ValidateStored(), validateWrittenMeta(o.Meta))
}

// ValidateStored returns an [ErrInvalid] that names everything wrong with an override that is in
// etcd. It accepts all that an earlier version wrote.
func (o Override) ValidateStored() error {
	var errs []error
	if o.State != "" {
		errs = append(errs, o.State.Validate())
	}
	if o.Weight != nil {
		errs = append(errs, validateRange("weight", *o.Weight, 0, MaxWeight))
	}
	return errors.Join(append(errs, validateTags(o.Tags), validateMeta(o.Meta))...)
}

// Apply returns the instance with the override merged into it, and its state: tags
// replace the instance's, meta merges key by key. The argument's tags and meta stay
// unchanged.
func (o Override) Apply(i Instance) (Instance, State) {
	state := Up
	if o.State != "" {
		state = o.State
	}
	if o.Weight != nil {
		i.Weight = *o.Weight
	}
	if o.Tags != nil {
		i.Tags = o.Tags
	}
	if len(o.Meta) > 0 {
		merged := make(Meta, len(i.Meta)+len(o.Meta))
		maps.Copy(merged, i.Meta)
		maps.Copy(merged, o.Meta)
		i.Meta = merged
	}
	return i, state
}
