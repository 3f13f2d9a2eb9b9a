package discovery

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Patch returns the override after a JSON merge patch (RFC 7396): a field of the patch
// replaces the override's, meta key by key; null removes it; the other fields stay. The
// receiver is unchanged. An unknown field, a wrong type, a value out of range or meta with
// control characters is an [ErrInvalid] that names it; what the patch leaves as it was may have
// such characters.
func (o Override) Patch(patch []byte) (Override, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(patch, &fields); err != nil {
		return Override{}, Errorf(ErrInvalid, "override patch is not a JSON object: %v", err)
	}
	if fields == nil {
		return Override{}, Errorf(ErrInvalid, "override patch is null; to remove the override, DELETE it")
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if err := o.patchField(name, fields[name]); err != nil {
			return Override{}, err
		}
	}
	return o, o.ValidateStored()
}

// Empty reports whether the override changes nothing.
func (o Override) Empty() bool {
	return o.State == "" && o.Weight == nil && o.Tags == nil && len(o.Meta) == 0
}

func (o *Override) patchField(name string, value json.RawMessage) error {
	var err error
	switch name {
	case "state":
		o.State = ""
		err = json.Unmarshal(value, &o.State)
	case "weight":
		o.Weight = nil // or json would write to the receiver's weight
		err = json.Unmarshal(value, &o.Weight)
	case "tags":
		o.Tags = nil
		err = json.Unmarshal(value, &o.Tags)
	case "meta":
		err = o.patchMeta(value)
	default:
		return Errorf(ErrInvalid, "override patch: unknown field %q; use state, weight, tags and meta", name)
	}
	if err != nil {
		return Errorf(ErrInvalid, "override patch: %s: %v", name, err)
	}
	return nil
}

func (o *Override) patchMeta(value json.RawMessage) error {
	if bytes.Equal(bytes.TrimSpace(value), []byte("null")) {
		o.Meta = nil
		return nil
	}
	var keys map[string]*string
	if err := json.Unmarshal(value, &keys); err != nil {
		return fmt.Errorf("it must be a map of strings: %w", err)
	}
	meta := maps.Clone(o.Meta)
	if meta == nil {
		meta = Meta{}
	}
	added := Meta{}
	for key, v := range keys {
		if v == nil {
			delete(meta, key)
		} else {
			added[key] = *v
		}
	}
	if err := validateWrittenMeta(added); err != nil {
		return err
	}
	maps.Copy(meta, added)
	o.Meta = meta
	return nil
}
