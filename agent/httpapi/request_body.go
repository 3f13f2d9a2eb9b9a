package httpapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"disc/discovery"
)

// readBody reads the whole body within the limits that [API.limitBody] set. It removes the
// time limit afterwards, since the answer may take longer.
func readBody(w http.ResponseWriter, r request) ([]byte, error) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			return nil, err
		}
		return nil, invalid("the body cannot be read: %v", err)
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // not every writer has a connection
	return b, nil
}

// decodeBody reads a body and decodes it by [decodeStrict].
func decodeBody(w http.ResponseWriter, r request, into any) error {
	b, err := readBody(w, r)
	if err != nil {
		return err
	}
	return decodeStrict(b, into)
}

// decodeStrict decodes a JSON object into a struct. ErrInvalid: a field that the struct
// does not have, a wrong type, or data after the object; the error names it.
func decodeStrict(b []byte, into any) error {
	if !bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("{")) {
		return invalid("the body is not a JSON object; see /openapi.json for its fields")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return bodyError(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return invalid("the body has data after the JSON object, at byte %d; send one object", d.InputOffset())
	}
	return nil
}

// bodyError returns a decoding error in terms of the body.
func bodyError(err error) error {
	var syntax *json.SyntaxError
	var wrong *json.UnmarshalTypeError
	var base64Error base64.CorruptInputError
	text := strings.TrimPrefix(err.Error(), "json: ")
	switch {
	case errors.Is(err, discovery.ErrInvalid):
		return err
	case errors.As(err, &wrong):
		return invalid("field %q: a %s does not fit", wrong.Field, wrong.Value)
	case errors.As(err, &base64Error):
		return invalid("a value is not base64: %v", base64Error)
	case errors.As(err, &syntax):
		return invalid("the body is not JSON: %s at byte %d", text, syntax.Offset)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return invalid("the body ends in the middle of its JSON object")
	case strings.HasPrefix(text, "unknown field "):
		return invalid("%s in the body; see /openapi.json", text)
	}
	return invalid("the body cannot be read: %s", text)
}
