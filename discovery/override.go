package discovery

import (
	"encoding/json"
	"errors"
	"maps"
)

// Override is an operator's lasting edit of an instance. What is absent leaves the
// record's own value.
type Override struct {
	State  State `json:"state,omitempty"`
	Weight *int  `json:"weight,omitempty"`
	Tags   Tags  `json:"tags,omitzero"` // replace the record's; empty but not nil: none
	Meta   Meta  `json:"meta,omitempty"`
}

// DecodeOverride reads an override as etcd keeps it, ignoring unknown fields.
func DecodeOverride(record []byte) (Override, error) {
	var o Override
	if err := json.Unmarshal(record, &o); err != nil {
		return Override{}, Errorf(ErrInvalid, "decode override: %v", err)
	}
	return o, o.Validate()
}

// Encode returns the override as etcd keeps it.
func (o Override) Encode() []byte { return encode(o) }

// Validate returns an [ErrInvalid] naming all that is wrong with the override.
func (o Override) Validate() error {
	var errs []error
	if o.State != "" {
		errs = append(errs, o.State.Validate())
	}
	if o.Weight != nil {
		errs = append(errs, validateRange("weight", *o.Weight, 0, MaxWeight))
	}
	return errors.Join(append(errs, validateTags(o.Tags), validateMeta(o.Meta))...)
}

// Apply merges the override into an instance: tags replace, meta merges key by key.
// The argument's own tags and meta are not changed.
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
