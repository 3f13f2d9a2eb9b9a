package httpapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"disc/agent/access"
	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/retry"
)

// statuses maps the kinds of errors to the status of HTTP. [api.Problem.Is] maps them
// back.
var statuses = []struct {
	kind   error
	status int
}{
	{discovery.ErrInvalid, http.StatusBadRequest},
	{discovery.ErrNotFound, http.StatusNotFound},
	{discovery.ErrConflict, http.StatusConflict},
	{discovery.ErrLost, http.StatusGone},
	{discovery.ErrForbidden, http.StatusForbidden},
	{discovery.ErrStorageFull, http.StatusInsufficientStorage},
	{discovery.ErrUnavailable, http.StatusServiceUnavailable},
	{context.DeadlineExceeded, http.StatusServiceUnavailable},
	{context.Canceled, http.StatusServiceUnavailable}, // the caller is gone, or the agent stops
}

// problemOf returns the problem that answers an error. An error of no known kind is the
// agent's own fault (internal): its text goes to the log only.
func (a *API) problemOf(err error) (p *api.Problem, internal bool) {
	var problem *api.Problem
	var tooLarge *http.MaxBytesError
	var busy *discovery.BusyError
	var denied *access.DeniedError
	switch {
	case errors.As(err, &denied) && denied.Unauthenticated():
		return api.NewProblem(http.StatusUnauthorized, err.Error()), false
	case errors.As(err, &problem):
		copied := *problem
		return &copied, false
	case errors.As(err, &tooLarge):
		return api.NewProblem(http.StatusRequestEntityTooLarge,
			"the body is larger than "+strconv.FormatInt(tooLarge.Limit, 10)+" bytes; send less"), false
	case errors.As(err, &busy):
		p := api.NewProblem(http.StatusTooManyRequests, err.Error())
		p.RetryAfter = discovery.Duration(busy.RetryAfter.Round(time.Millisecond))
		return p, false
	}
	if a.options.Explain != nil {
		err = a.options.Explain(err)
	}
	for _, s := range statuses {
		if errors.Is(err, s.kind) {
			return api.NewProblem(s.status, retry.PlainText(err)), false
		}
	}
	return api.NewProblem(http.StatusInternalServerError, "the agent failed at this request; its log has the error"), true
}

// writeProblem answers an error. Where the answer has started already it does nothing.
func (a *API) writeProblem(w *statusRecorder, r *http.Request, err error) {
	if w.started {
		return
	}
	p, internal := a.problemOf(err)
	if internal {
		a.log.Error("http request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	a.extend(w) // the caller may have waited for long
	p.Instance = r.URL.EscapedPath()
	h := w.Header()
	switch p.Status {
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", "1")
	case http.StatusTooManyRequests:
		h.Set("Retry-After", cmp.Or(h.Get("Retry-After"), strconv.FormatInt(wholeSeconds(time.Duration(p.RetryAfter)), 10)))
	}
	if denied, ok := errors.AsType[*access.DeniedError](err); ok {
		h.Set("WWW-Authenticate", challenge(denied))
	}
	body, err := json.Marshal(p)
	if err != nil {
		panic(err) // the type holds nothing that json refuses
	}
	body = append(body, '\n')
	h.Set("Content-Type", api.TypeProblem)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // the caller may be gone
}
