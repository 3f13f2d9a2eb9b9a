package httpapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"disc/agent/api"
	"disc/discovery/view"
)

// writeTime is how long a caller may take to read what is sent at once; who reads
// slower is dropped.
const writeTime = 30 * time.Second

// ownTime is how long the answer to a write waits for the write to be in the view.
const ownTime = 2 * time.Second

// header is a header's value, ready to be put into a map of headers.
type header struct {
	number int64
	value  []string
}

// setView tells of the view that an answer comes from. It writes into the map
// directly, since the names are canonical and this is on every lookup's way.
func (a *API) setView(h http.Header, v view.View, index []string) {
	revision := a.revision.Load()
	if revision == nil || revision.number != v.Snapshot.Revision() {
		revision = &header{v.Snapshot.Revision(), []string{strconv.FormatInt(v.Snapshot.Revision(), 10)}}
		a.revision.Store(revision)
	}
	var age [24]byte
	h[api.HeaderRevision] = revision.value
	h[api.HeaderAge] = []string{string(strconv.AppendFloat(age[:0], v.Age.Seconds(), 'f', 3, 64))}
	h[api.HeaderIndex] = index
	if v.Stale {
		h[api.HeaderStale] = staleValue
	}
}

var (
	staleValue = []string{"true"}
	varyAccept = []string{"Accept"}
)

// reply answers a query with a value as JSON.
func (a *API) reply(w http.ResponseWriter, r request, v view.View, index int64, value any) error {
	body, err := encode(value)
	if err != nil {
		return err
	}
	a.setView(w.Header(), v, []string{strconv.FormatInt(index, 10)})
	return a.write(w, r, content{body: body, contentType: api.TypeJSON, etag: `"` + digest(body) + `"`})
}

// content is a body and what is to be said of it.
type content struct {
	body        []byte
	contentType string
	etag        string
}

// write answers with content, or with 304 when the caller has it.
func (a *API) write(w http.ResponseWriter, r request, c content) error {
	a.extend(w) // the caller may have waited for long
	h := w.Header()
	h["Etag"] = []string{c.etag}
	if matches(r.Header["If-None-Match"], c.etag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Type", c.contentType)
	h.Set("Content-Length", strconv.Itoa(len(c.body)))
	_, err := w.Write(c.body)
	return err
}

// extend gives the caller its time to read what is written next.
func (a *API) extend(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(a.times.write)) // not every writer has a connection
}

// replyWrite answers a write with a value and etcd's revision, if it got that far: one
// of an instance or an override, which the view will reach. The caller's next lookup has
// what was written.
func (a *API) replyWrite(w http.ResponseWriter, r request, status int, revision int64, value any) error {
	h := w.Header()
	if revision > 0 {
		a.awaitRevision(r, r.PathValue("service"), revision)
		h.Set(api.HeaderRevision, strconv.FormatInt(revision, 10))
	}
	if value == nil {
		a.extend(w) // etcd may have taken its time
		h.Set("Content-Length", "0")
		w.WriteHeader(status)
		return nil
	}
	return a.replyValue(w, status, value)
}

// replyValue answers with a value as JSON that is of no view.
func (a *API) replyValue(w http.ResponseWriter, status int, value any) error {
	body, err := encode(value)
	if err != nil {
		return err
	}
	a.extend(w) // etcd may have taken its time
	w.Header().Set("Content-Type", api.TypeJSON)
	w.WriteHeader(status)
	_, err = w.Write(body)
	return err
}

// encode writes JSON with a newline, for terminals; "<" stays "<".
func encode(value any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return nil, fmt.Errorf("encode the answer: %w", err)
	}
	return b.Bytes(), nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:18])
}

// matches reports whether If-None-Match names an entity tag, by the weak comparison
// (RFC 9110, section 13.1.2).
func matches(ifNoneMatch []string, etag string) bool {
	want := strings.TrimPrefix(etag, "W/")
	for _, line := range ifNoneMatch {
		for tag := range strings.SplitSeq(line, ",") {
			if tag = strings.TrimSpace(tag); tag == "*" || strings.TrimPrefix(tag, "W/") == want {
				return true
			}
		}
	}
	return false
}
