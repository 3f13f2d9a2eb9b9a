package httpapi

import (
	"net/http"
	"sync/atomic"
	"time"
)

// The bounds of what is open at once, besides those of connections.
const (
	MaxStreams  = 32   // requests on one HTTP/2 connection
	maxRequests = 4096 // requests over HTTP/2 in all
	maxWorking  = 16   // requests that compute an answer
	maxQueued   = 256  // requests that wait for up to workTime to compute one

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
// requests. Its connection keeps its place.
func (a *API) admit(r request, b *streamBound) (end func(), err error) {
	if b.open.Add(1) > b.most {
		b.open.Add(-1)
		return nil, overload("the agent has %d %s, the most that it allows", b.most, b.what)
	}
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

// admitGrant is admit for a request for a lock or claim, which stays open if long is true.
func (a *API) admitGrant(r request, long bool) (end func(), err error) {
	if !long {
		return func() {}, nil
	}
	return a.admit(r, a.grants)
}

// startWork waits for one of the places to compute an answer in, so that the answers that are
// being made do not fill the memory. The place is free again when the answer begins, or the
// handler has ended.
func (a *API) startWork(r request) error {
	if r.answer.working != nil {
		return nil
	}
	select {
	case a.working <- struct{}{}:
	default:
		defer a.queued.Add(-1)
		if a.queued.Add(1) > maxQueued {
			return overload("the agent has %d answers to compute, the most that it allows", maxQueued+cap(a.working))
		}
		late := time.NewTimer(workTime)
		defer late.Stop()
		select {
		case a.working <- struct{}{}:
		case <-r.Context().Done():
			return r.Context().Err()
		case <-late.C:
			return overload("the agent computes %d answers, the most that it allows at once, and was not done with one for %v", cap(a.working), workTime)
		}
	}
	r.answer.working = a.working
	return nil
}

// serveHTTP2 answers a request over HTTP/2 unless there are too many of them. The answer is
// sent, and not merely buffered, when it returns.
func (a *API) serveHTTP2(w http.ResponseWriter, r *http.Request) {
	defer a.requests.Add(-1)
	if c, _ := r.Context().Value(connectionKey{}).(*connection); c != nil {
		c.Touch(time.Now(), false) // its state does not change while requests overlap
	}
	rc := http.NewResponseController(w)
	if a.requests.Add(1) > maxRequests && !isHealth(r.URL.Path) {
		_ = rc.SetWriteDeadline(time.Now().Add(refusedBodyTime)) // a caller that does not read must not keep this one
		a.serve("refused", func(http.ResponseWriter, *http.Request) error {
			return overload("the agent has %d requests over HTTP/2, the most that it allows", maxRequests)
		}).ServeHTTP(w, r)
	} else {
		a.serveRequest(w, r)
	}
	_ = rc.Flush() // the caller may be gone
}

// isHealth reports whether a path is for monitoring, which no bound of requests refuses.
func isHealth(path string) bool {
	switch path {
	case "/healthz", "/readyz", "/readyz/lookup", "/readyz/registered", "/metrics":
		return true
	}
	return false
}
