package api

import (
	"fmt"
	"net/http"

	"disc/discovery"
	"disc/discovery/lookup"
)

// Problem is the API's error response (RFC 9457). Its type is "about:blank", except for a
// denied take: the status says what kind of problem it is, and the detail what to do.
type Problem struct {
	Type     string `json:"type"`
	Title    string `json:"title"`  // the status in words
	Status   int    `json:"status"` // HTTP's
	Detail   string `json:"detail"`
	Instance string `json:"instance,omitempty"` // the path of the request

	// Of a denied take: the limits that denied it.
	ViolatedPolicies []string `json:"violated-policies,omitempty"`
	// Of status 429: the time until a retry can succeed.
	RetryAfter discovery.Duration `json:"retry_after,omitzero"`

	// Of a lookup with [LookupOptions.Explain] whose name is not known.
	Nearest      []string         `json:"nearest,omitempty"`       // the names that were meant, perhaps: the nearest first, at most [lookup.MaxNearest]
	NamesMissing string           `json:"names_missing,omitempty"` // why the agent may lack names that are in etcd; "": it has all
	Answered     *lookup.Answered `json:"answered,omitempty"`      // what answered, and how old that is

	lost string // why the caller has lost what it asks for anew (Disc-Lost); "": it has not
}

// NewProblem returns the problem of an HTTP status.
func NewProblem(status int, detail string) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail}
}

// Error returns the detail, or else the status.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return fmt.Sprintf("%d %s", p.Status, http.StatusText(p.Status))
	}
	return p.Detail
}

// Is maps the status to the kinds of package discovery: 404 is ErrNotFound, 409 and 412 are
// ErrConflict, 410 is ErrLost, 503 is ErrUnavailable, 507 is ErrStorageFull, 401, 403 and 421
// are ErrForbidden, 429 is ErrBusy, and any other 4xx is ErrInvalid.
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
	case http.StatusInsufficientStorage:
		return target == discovery.ErrStorageFull
	case http.StatusTooManyRequests:
		return target == discovery.ErrBusy
	}
	return target == discovery.ErrInvalid && p.Status >= 400 && p.Status < 500
}
