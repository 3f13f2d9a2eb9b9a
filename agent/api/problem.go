package api

import (
	"fmt"
	"net/http"

	"disc/discovery"
)

// Problem is an error as the API answers it (RFC 9457). But for takes of rate limits its
// type is "about:blank": the status says what kind of problem it is, and the detail says
// what to do.
type Problem struct {
	Type     string `json:"type"`
	Title    string `json:"title"` // the status in words
	Status   int    `json:"status"`
	Detail   string `json:"detail"`
	Instance string `json:"instance,omitempty"` // the path that was asked

	// Of a take that was denied: the limits that denied it, and when to try again.
	ViolatedPolicies []string           `json:"violated-policies,omitempty"`
	RetryAfter       discovery.Duration `json:"retry_after,omitzero"`
}

// NewProblem returns the problem of a status.
func NewProblem(status int, detail string) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail}
}

func (p *Problem) Error() string {
	if p.Detail == "" {
		return fmt.Sprintf("%d %s", p.Status, http.StatusText(p.Status))
	}
	return p.Detail
}

// Is reports whether a problem is of one of the kinds of package discovery.
func (p *Problem) Is(target error) bool {
	switch p.Status {
	case http.StatusNotFound:
		return target == discovery.ErrNotFound
	case http.StatusConflict, http.StatusPreconditionFailed:
		return target == discovery.ErrConflict
	case http.StatusGone:
		return target == discovery.ErrLost
	case http.StatusServiceUnavailable:
		return target == discovery.ErrUnavailable
	case http.StatusForbidden, http.StatusUnauthorized, http.StatusMisdirectedRequest:
		return target == discovery.ErrForbidden
	case http.StatusTooManyRequests:
		return false // nothing is wrong with it
	}
	return target == discovery.ErrInvalid && p.Status >= 400 && p.Status < 500
}
