package envoy

import (
	"fmt"
	"unicode/utf8"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// typeURL is the type of the resources that the server offers.
const typeURL = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"

// encoder is a message to send, decoder one to receive.
type (
	encoder interface{ appendTo(b []byte) []byte }
	decoder interface{ decode(b []byte) error }
)

// codec encodes and decodes the messages of gRPC streams and calls.
type codec struct{}

// Name implements encoding.CodecV2.
func (codec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	if o, ok := v.(*outgoing); ok {
		b, err := o.buffer()
		return mem.BufferSlice{b}, err
	}
	return mem.BufferSlice{mem.SliceBuffer(v.(encoder).appendTo(nil))}, nil
}

// Unmarshal implements encoding.CodecV2.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	return v.(decoder).decode(data.Materialize())
}

func appendString(b []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func appendNumber(b []byte, field protowire.Number, n uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), n)
}

func appendMessage(b []byte, field protowire.Number, message []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), message)
}

// appendWrapped writes a google.protobuf.UInt32Value.
func appendWrapped(b []byte, field protowire.Number, n uint32) []byte {
	return appendMessage(b, field, appendNumber(nil, 1, uint64(n)))
}

// appendAny writes an assignment as a google.protobuf.Any.
func appendAny(b []byte, field protowire.Number, a assignment) []byte {
	return appendMessage(b, field, appendMessage(appendString(nil, 1, typeURL), 2, a.appendTo(nil)))
}

func (a assignment) appendTo(b []byte) []byte {
	b = appendString(b, 1, a.Cluster)
	for _, l := range a.Localities {
		b = appendMessage(b, 2, l.appendTo(nil))
	}
	return b
}

func (l localityEndpoints) appendTo(b []byte) []byte {
	b = appendMessage(b, 1, appendString(nil, 2, l.Locality.Zone))
	for _, e := range l.Endpoints {
		b = appendMessage(b, 2, e.appendTo(nil))
	}
	return appendWrapped(b, 3, l.Weight)
}

func (e endpoint) appendTo(b []byte) []byte {
	socket := appendString(nil, 2, e.Host.Address.Socket.Address)
	socket = appendNumber(socket, 3, uint64(e.Host.Address.Socket.Port))
	address := appendMessage(nil, 1, socket)
	b = appendMessage(b, 1, appendMessage(nil, 1, address))
	b = appendNumber(b, 2, uint64(e.Health))
	return appendWrapped(b, 4, e.Weight)
}

// eachField calls f with the number and the content of each length-delimited field (string
// or message), and skips the others.
func eachField(b []byte, f func(field protowire.Number, content []byte) error) error {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("read a field: %w", protowire.ParseError(n))
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(field, kind, b); n < 0 {
			return fmt.Errorf("read field %d: %w", field, protowire.ParseError(n))
		}
		if kind == protowire.BytesType {
			content, _ := protowire.ConsumeBytes(b)
			if err := f(field, content); err != nil {
				return err
			}
		}
		b = b[n:]
	}
	return nil
}

// stringValue returns the content of a string field. It must be UTF-8.
func stringValue(field protowire.Number, content []byte) (string, error) {
	if !utf8.Valid(content) {
		return "", fmt.Errorf("field %d is not UTF-8", field)
	}
	return string(content), nil
}

// stringField returns a string field of a message; "" if it is absent.
func stringField(message []byte, wanted protowire.Number) (found string, err error) {
	err = eachField(message, func(field protowire.Number, content []byte) (err error) {
		if field == wanted {
			found, err = stringValue(field, content)
		}
		return err
	})
	return found, err
}
