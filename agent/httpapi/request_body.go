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

// bodyTime is the time for a body to come in.
const bodyTime = 30 * time.Second

// requestBody is the body of a request, and the room that it takes.
type requestBody struct {
	api   *API
	limit int64       // the most bytes that the route takes
	room  *bodyBudget // for its bytes
	in    *budget     // the part of room that it is in
	size  int64       // bytes taken from in
}

func (a *API) newBody(rt *route) *requestBody {
	b := &requestBody{api: a, limit: rt.body, room: a.openBodies}
	if !rt.reads() {
		b.room = a.writeBodies
	}
	return b
}

// acquire takes room for n bytes in place of what was taken.
func (b *requestBody) acquire(n int64) error {
	b.release()
	in, size := b.room.of(n), n+bodyOverhead
	if !in.acquire(size) {
		return overload("the bodies of requests that are under way have %d of at most %d bytes", in.used.Load(), in.size)
	}
	b.in, b.size = in, size
	return nil
}

// release gives back the room of the body.
func (b *requestBody) release() {
	if b != nil && b.in != nil {
		b.in.release(b.size)
		b.in = nil
	}
}

// leaveBody has the server not read a body: unless [readBody] does, the connection ends with
// the answer, and the caller has a moment to read that before.
func (a *API) leaveBody(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor >= 2 {
		return // the server resets the stream
	}
	w.Header().Set("Connection", "close")
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(refusedBodyTime)) // not every writer has a connection
}

// closeBody discards the body of a request over HTTP/2, which the server would buffer.
func closeBody(r *http.Request) {
	if r.ProtoMajor >= 2 {
		_ = r.Body.Close() // nothing was read
	}
}

// readBody reads the whole body, of at most so many bytes as the route takes, within bodyTime.
// It refuses a body that is too large, or for which there is no room, before it reads it. There
// is no time limit afterwards, since the answer may take longer.
func readBody(w http.ResponseWriter, r request) ([]byte, error) {
	b := r.body
	if b == nil {
		return nil, nil
	}
	size := r.ContentLength
	if size > b.limit {
		return nil, &http.MaxBytesError{Limit: b.limit}
	}
	if size < 0 {
		size = b.limit // not known
	}
	if err := b.acquire(size); err != nil {
		return nil, err
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(b.api.timeouts.body)) // not every writer has a connection
	read := bytes.NewBuffer(make([]byte, 0, max(r.ContentLength, 0)+bytes.MinRead))
	if _, err := read.ReadFrom(http.MaxBytesReader(w, r.Body, b.limit)); err != nil {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			return nil, err
		}
		return nil, invalid("the body cannot be read: %v", err)
	}
	_ = rc.SetReadDeadline(time.Time{})
	w.Header().Del("Connection")
	return read.Bytes(), nil
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
