package httpapi

import (
	"net/http"
	"sync/atomic"
	"time"
)

// The bounds of what is open at once, besides those of connections.
const (
	MaxStreams     = 32   // requests on one HTTP/2 connection
	maxRequests    = 4096 // requests over HTTP/2 in all
	maxExtraHealth = 256  // beyond these, requests for health
	maxRefused     = 2048 // beyond these, requests that are being refused; more are reset
	minWorking     = 16   // requests that compute an answer; two for each processor, if that is more
	maxQueued      = 256  // requests that wait for up to workTime to compute one

	workTime        = 5 * time.Second
	refusedBodyTime = 1 * time.Second // for the caller of a body that is not read to notice

	streamBuffer     = 64 << 10         // bytes that a stream of HTTP/2 buffers of a body
	connectionBuffer = 4 * streamBuffer // bytes that all streams of a connection buffer
)

// streamBound bounds the requests of a kind that stay open for long.
type streamBound struct {
	what string
	most int64
	open atomic.Int64
}

// newStreamBounds returns the bounds for a number of connections. What they leave free, a
// quarter, is for short requests.
func newStreamBounds(connections int) (reads, grants *streamBound) {
	n := int64(connections)
	return &streamBound{what: "blocking queries and watches", most: max(n/2, 1)},
		&streamBound{what: "open registrations, and locks and claims that are held or waited for", most: max(n/4, 1)}
}

// admit lets a request stay open for long, until end is called, unless there are too many such
// requests. Its connection keeps its place. ErrInvalid: it has a body that is not read, so that
// the server would not notice over HTTP/1 when the caller is gone.
func (a *API) admit(r request, b *streamBound) (end func(), err error) {
	if r.body != nil && !r.body.read && r.ProtoMajor == 1 {
		return nil, invalid("a request that waits, or stays open, takes no body here; send none")
	}
	if b.open.Add(1) > b.most {
		b.open.Add(-1)
		return nil, overload("the agent has %d %s, the most that it allows", b.most, b.what)
	}
	r.answer.admitted = true
	_ = http.NewResponseController(r.answer).SetWriteDeadline(time.Time{}) // over HTTP/2 it would end the wait
	c, _ := r.Context().Value(connectionKey{}).(*connection)
	if c != nil {
		c.held.Add(1)
	}
	return func() {
		if c != nil {
			c.Touch(time.Now(), false)
			c.held.Add(-1)
		}
		b.open.Add(-1)
	}, nil
}

// admitGrant is admit for a request for a lock or claim, which stays open if long is true. It
// gives back the room of the body, which is decoded.
func (a *API) admitGrant(r request, long bool) (end func(), err error) {
	if !long {
		return func() {}, nil
	}
	r.body.release()
	return a.admit(r, a.grants)
}

// startWork waits for one of the places to compute an answer in, so that the answers that are
// being made do not fill the memory. The place is free again when the answer begins, or the
// handler has ended. A request that [API.admit] let in, of which there are not too many, waits
// for as long as its caller does.
func (a *API) startWork(r request) error {
	if r.answer.working != nil {
		return nil
	}
	select {
	case a.working <- struct{}{}:
	default:
		if err := a.awaitWork(r); err != nil {
			return err
		}
	}
	r.answer.working = a.working
	return nil
}

// awaitWork waits for a place of [API.startWork], and takes it.
func (a *API) awaitWork(r request) error {
	var late <-chan time.Time // nil: never
	if !r.answer.admitted {
		defer a.queued.Add(-1)
		if a.queued.Add(1) > maxQueued {
			return overload("the agent has %d answers to compute, the most that it allows", maxQueued+cap(a.working))
		}
		timer := time.NewTimer(workTime)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case a.working <- struct{}{}:
		return nil
	case <-r.Context().Done():
		return r.Context().Err()
	case <-late:
		return overload("the agent computes %d answers, the most that it allows at once, and others waited before this one for %v", cap(a.working), workTime)
	}
}

// serveHTTP2 answers a request over HTTP/2 unless there are too many of them. The answer is
// sent, and not merely buffered, when it returns. Beyond the bound some for health are answered
// and some others refused, if their callers read that at once; the rest is reset.
func (a *API) serveHTTP2(w http.ResponseWriter, r *http.Request) {
	defer a.requests.Add(-1)
	if c, _ := r.Context().Value(connectionKey{}).(*connection); c != nil {
		c.Touch(time.Now(), false) // its state does not change while requests overlap
	}
	rc := http.NewResponseController(w)
	if a.requests.Add(1) <= maxRequests {
		a.serveRequest(w, r)
		_ = rc.Flush() // the caller may be gone
		return
	}
	health := isHealth(r.URL.Path)
	extra, most := &a.refused, int64(maxRefused)
	if health {
		extra, most = &a.extraHealth, maxExtraHealth
	}
	defer extra.Add(-1)
	if extra.Add(1) > most {
		panic(http.ErrAbortHandler) // the server resets the stream, which takes no memory
	}
	_ = rc.SetWriteDeadline(time.Now().Add(refusedBodyTime)) // a caller that does not read must not keep this one
	if w = (hurriedWriter{w}); health {
		a.serveRequest(w, r)
	} else {
		a.refuse(w, r, "refused", overload("the agent has %d requests over HTTP/2, the most that it allows", maxRequests))
	}
	_ = rc.Flush() // the caller may be gone
}

// hurriedWriter is a writer whose write deadline stays as it is.
type hurriedWriter struct{ http.ResponseWriter }

// SetWriteDeadline does nothing.
func (hurriedWriter) SetWriteDeadline(time.Time) error { return nil }

// Unwrap lets http.ResponseController reach the connection.
func (h hurriedWriter) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// isHealth reports whether a path is for monitoring, which no bound of requests refuses.
func isHealth(path string) bool {
	switch path {
	case "/healthz", "/readyz", "/readyz/lookup", "/readyz/registered", "/metrics":
		return true
	}
	return false
}
