package httpapi

import (
	"errors"
	"net/http"
	"testing"

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
		"another": {discovery.Errorf(discovery.ErrNotFound, "no such key"), http.StatusNotFound, "no such key"},
	} {
		t.Run(name, func(t *testing.T) {
			if p, internal := a.problemOf(test.err); internal || p.Status != test.status || p.Detail != test.detail {
				t.Errorf("%d %q, internal %v; want %d %q", p.Status, p.Detail, internal, test.status, test.detail)
			}
		})
	}
}
