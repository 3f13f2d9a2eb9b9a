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

	"disc/agent/api"
	"disc/discovery"
)

// The time for a body to come in.
const (
	bodyTime      = 30 * time.Second
	smallBodyTime = 5 * time.Second // up to smallBody
)

const (
	firstRoom   = 512     // bytes that are reserved before a body comes in; then twice as many each time
	drainedBody = 4 << 10 // bytes of a body that no route reads, and that the connection goes on after
)

// requestBody is the body of a request, and the room that it takes.
type requestBody struct {
	api   *API
	limit int64       // the most bytes that the route takes
	room  *bodyBudget // for its bytes
	in    *budget     // the part of room that it is in; nil: it has no room
	size  int64       // bytes taken from in
	read  bool        // to its end
}

func (a *API) newBody(rt *route) *requestBody {
	b := &requestBody{api: a, limit: rt.body, room: a.openBodies}
	if !rt.reads() {
		b.room = a.writeBodies
	}
	return b
}

// resize takes room for n bytes in place of what was taken.
func (b *requestBody) resize(n int64) error {
	more := n + bodyOverhead - b.size
	switch {
	case more < 0:
		b.in.release(-more)
	case !b.in.acquire(more):
		return overload("the bodies of requests that are under way have %d of at most %d bytes", b.in.used.Load(), b.in.size)
	}
	b.size += more
	return nil
}

// release gives back the room of the body.
func (b *requestBody) release() {
	if b != nil && b.in != nil {
		b.in.release(b.size)
		b.in, b.size = nil, 0
	}
}

// readFrom reads the body from r. Room is taken as the bytes come in, whatever length the caller
// announced. size is that length, or the most that there may be.
func (b *requestBody) readFrom(r io.Reader, size int64) ([]byte, error) {
	read := make([]byte, 0, min(size, firstRoom)+1) // one more to find the end in
	if err := b.resize(int64(cap(read))); err != nil {
		return nil, err
	}
	for {
		n, err := r.Read(read[len(read):cap(read)])
		read = read[:len(read)+n]
		switch {
		case errors.Is(err, io.EOF):
			return read, b.resize(int64(len(read)))
		case err != nil:
			return nil, err
		case len(read) < cap(read):
			continue
		}
		room := max(min(2*int64(cap(read)), size+1), int64(cap(read))+1)
		if err := b.resize(room); err != nil {
			return nil, err
		}
		read = append(make([]byte, 0, room), read...)
	}
}

// leaveBody has the server not read a body: unless [readBody] does, the connection ends with
// the answer, and the caller has a moment to read that before. The server reads a small one, for
// as long as that moment, so that the connection goes on.
func (a *API) leaveBody(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor >= 2 {
		return // the server resets the stream
	}
	if r.ContentLength < 0 || r.ContentLength > drainedBody {
		w.Header().Set("Connection", "close")
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(refusedBodyTime)) // not every writer has a connection
}

// closeBody discards the body of a request over HTTP/2, which the server would buffer.
func closeBody(r *http.Request) {
	if r.ProtoMajor >= 2 {
		_ = r.Body.Close() // nothing was read
	}
}

// readBody reads the whole body, of at most so many bytes as the route takes, within bodyTime, or
// smallBodyTime if it is small. It refuses a body that is too large before it reads it, and one
// for which there is no room as soon as that shows. There is no time limit afterwards, since the
// answer may take longer.
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
	limit := b.api.timeouts.body
	if size <= smallBody {
		limit = min(limit, smallBodyTime)
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(limit)) // not every writer has a connection
	b.in = b.room.of(size)
	read, err := b.readFrom(http.MaxBytesReader(w, r.Body, b.limit), size)
	if err != nil {
		if _, noRoom := errors.AsType[*api.Problem](err); noRoom {
			_ = rc.SetReadDeadline(time.Now().Add(refusedBodyTime))
			return nil, err
		}
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			return nil, err
		}
		return nil, invalid("the body cannot be read: %v", err)
	}
	b.read = true
	_ = rc.SetReadDeadline(time.Time{})
	w.Header().Del("Connection")
	return read, nil
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
