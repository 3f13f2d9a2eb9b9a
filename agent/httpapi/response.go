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
)

// writeTime is the time for a caller to read what is written at once. The connection of
// a slower caller is closed.
const writeTime = 30 * time.Second

// ownWriteTime is how long the answer to a write waits until the view has the write.
const ownWriteTime = 2 * time.Second

// extend gives the caller [writeTime] to read what is written next.
func (a *API) extend(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(a.timeouts.write)) // not every writer has a connection
}

// replyWrite answers a write with a value; nil: none. revision is that of the write of an
// instance or an override, or 0 if nothing was written. Above 0, the answer waits until the
// view has reached it, so that the caller's next lookup has what was written.
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

// replyValue answers with a value as JSON that does not come from a view.
func (a *API) replyValue(w http.ResponseWriter, status int, value any) error {
	body, err := encode(value)
	if err != nil {
		return err
	}
	release, err := a.reserveAnswer(len(body))
	if err != nil {
		return err
	}
	defer release()
	a.extend(w) // etcd may have taken its time
	w.Header().Set("Content-Type", api.TypeJSON)
	if rec, _ := w.(*statusRecorder); rec == nil || !rec.admitted {
		w.Header().Set("Content-Length", strconv.Itoa(len(body))) // nothing follows it
	}
	w.WriteHeader(status)
	_, err = w.Write(body)
	return err
}

// encode returns value as JSON with a newline at the end, for terminals. It does not
// escape "<".
func encode(value any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return nil, fmt.Errorf("encode the answer: %w", err)
	}
	return b.Bytes(), nil
}

// digest returns the first 144 bits of SHA-256 in base64url.
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
