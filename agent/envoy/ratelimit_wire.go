package envoy

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"disc/discovery"
)

// The values of RateLimitResponse.Code.
const (
	codeOK        = 1
	codeOverLimit = 2
)

// The messages of package envoy.service.ratelimit.v3, with the fields that are used here.
type (
	rateLimitRequest struct { // RateLimitRequest
		domain      string
		descriptors []descriptor
		addend      uint32
	}
	descriptor struct { // envoy.extensions.common.ratelimit.v3.RateLimitDescriptor
		entries []descriptorEntry
		addend  *uint64
	}
	descriptorEntry struct{ key, value string }

	rateLimitResponse struct { // RateLimitResponse
		code     uint64
		statuses []descriptorStatus
	}
	descriptorStatus struct { // RateLimitResponse.DescriptorStatus
		code       uint64
		name       string // of the limit; empty: there is none
		rate, unit uint32
		remaining  uint32
		reset      time.Duration
	}
)

// maxEntries is the most entries of a descriptor that count: with more, no limit has a name for
// it.
const maxEntries = discovery.MaxID

func (r *rateLimitRequest) decode(b []byte) error {
	err := eachField(b, func(field protowire.Number, content []byte) (err error) {
		switch field {
		case 1:
			r.domain, err = stringValue(field, content)
		case 2:
			if len(r.descriptors) > MaxDescriptors { // which is refused
				return nil
			}
			var d descriptor
			err = d.decode(content)
			r.descriptors = append(r.descriptors, d)
		}
		return err
	})
	addend, numberErr := numberField(b, 3)
	r.addend = uint32(addend)
	if err == nil {
		err = numberErr
	}
	return err
}

func (d *descriptor) decode(b []byte) error {
	return eachField(b, func(field protowire.Number, content []byte) (err error) {
		switch field {
		case 1:
			if len(d.entries) > maxEntries {
				return nil
			}
			var e descriptorEntry
			if e.key, err = stringField(content, 1); err == nil {
				e.value, err = stringField(content, 2)
			}
			d.entries = append(d.entries, e)
		case 3: // a google.protobuf.UInt64Value
			var n uint64
			n, err = numberField(content, 1)
			d.addend = &n
		}
		return err
	})
}

// numberField returns a varint field of a message, the last one if it is repeated; 0 if it is
// absent.
func numberField(message []byte, wanted protowire.Number) (found uint64, err error) {
	for b := message; len(b) > 0; {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, fmt.Errorf("read a field: %w", protowire.ParseError(n))
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(field, kind, b); n < 0 {
			return 0, fmt.Errorf("read field %d: %w", field, protowire.ParseError(n))
		}
		if field == wanted && kind == protowire.VarintType {
			found, _ = protowire.ConsumeVarint(b)
		}
		b = b[n:]
	}
	return found, nil
}

func (r *rateLimitResponse) appendTo(b []byte) []byte {
	b = appendNumber(b, 1, r.code)
	for _, s := range r.statuses {
		b = appendMessage(b, 2, s.appendTo(nil))
	}
	return b
}

func (s descriptorStatus) appendTo(b []byte) []byte {
	b = appendNumber(b, 1, s.code)
	if s.name == "" {
		return b
	}
	if s.unit != 0 {
		limit := appendNumber(appendNumber(nil, 1, uint64(s.rate)), 2, uint64(s.unit))
		b = appendMessage(b, 2, appendString(limit, 3, s.name))
	}
	b = appendNumber(b, 3, uint64(s.remaining))
	reset := appendNumber(nil, 1, uint64(s.reset/time.Second))
	return appendMessage(b, 4, appendNumber(reset, 2, uint64(s.reset%time.Second)))
}
