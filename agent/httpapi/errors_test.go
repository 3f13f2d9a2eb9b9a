package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"disc/agent/api"
	"disc/discovery"
)

// An error of etcd is explained before it is answered; a problem is answered as it is.
func TestErrorsAreExplained(t *testing.T) {
	etcdError := errors.New("etcdserver: no leader")
	a := &API{options: Options{Explain: func(err error) error {
		if errors.Is(err, etcdError) || errors.Is(err, discovery.ErrForbidden) {
			return discovery.Errorf(discovery.ErrUnavailable, "etcd has no quorum")
		}
		return err
	}}}
	for name, test := range map[string]struct {
		err    error
		status int
		detail string
	}{
		"etcd's":  {etcdError, http.StatusServiceUnavailable, "etcd has no quorum"},
		"problem": {api.NewProblem(http.StatusUnauthorized, "this needs a token"), http.StatusUnauthorized, "this needs a token"},
		"full":    {discovery.Errorf(discovery.ErrStorageFull, "etcd is nearly full"), http.StatusInsufficientStorage, "etcd is nearly full"},
		"busy": {&discovery.BusyError{PerSecond: 5, RetryAfter: 1500 * time.Millisecond}, http.StatusTooManyRequests,
			"this agent makes 5 writes of shared state a second at most (kv.max_writes_per_second), and more are waiting than it makes in a second; try again in 1.5s"},
		"context": {fmt.Errorf("read key %q: %w", "a", context.Canceled), http.StatusServiceUnavailable, `read key "a": interrupted`},
		"another": {discovery.Errorf(discovery.ErrNotFound, "no such key"), http.StatusNotFound, "no such key"},
	} {
		t.Run(name, func(t *testing.T) {
			if p, internal := a.problemOf(test.err); internal || p.Status != test.status || p.Detail != test.detail {
				t.Errorf("%d %q, internal %v; want %d %q", p.Status, p.Detail, internal, test.status, test.detail)
			}
		})
	}
}

// An answer of status 429 says when to try again, in its header too, and the client tells it
// from other errors.
func TestBusyIsAnswered(t *testing.T) {
	a := newFleet().api(t, Options{})
	w := httptest.NewRecorder()
	a.writeProblem(&statusRecorder{ResponseWriter: w}, httptest.NewRequest("PUT", "/v1/kv/a", nil), &discovery.BusyError{RetryAfter: 1500 * time.Millisecond})
	var p api.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatal(err)
	}
	if w.Code != 429 || w.Header().Get("Retry-After") != "2" || time.Duration(p.RetryAfter) != 1500*time.Millisecond || !errors.Is(&p, discovery.ErrBusy) {
		t.Errorf("%d, Retry-After %q, %+v", w.Code, w.Header().Get("Retry-After"), p)
	}
}
