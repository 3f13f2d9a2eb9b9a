package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"disc/discovery"
)

// The problem types of a denied take (draft-ietf-httpapi-ratelimit-headers).
const (
	ProblemQuota    = "https://iana.org/assignments/http-problem-types#quota-exceeded"
	ProblemCapacity = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
)

// The response headers of a take (draft-ietf-httpapi-ratelimit-headers).
const (
	HeaderRateLimit       = "Ratelimit"        // the tokens left: "sms";r=49;t=1
	HeaderRateLimitPolicy = "Ratelimit-Policy" // the limit: "sms";q=50;w=1
)

// Limit is a fleet-wide rate limit with its name.
type Limit struct {
	Name string `json:"name"`
	discovery.Limit
	Usage *LimitUsage `json:"usage,omitempty"` // nil: it was not asked for
}

// LimitUsage is how much of a limit is used.
type LimitUsage struct {
	Bought  int64 `json:"bought"`  // tokens that all agents have bought since the limit was made; they let through no more
	Waiting int   `json:"waiting"` // takes that wait for tokens at the agent that answers
}

// Taken is the result of a take.
type Taken struct {
	Name        string `json:"name"`
	Taken       int64  `json:"taken"`                 // tokens; 0: the take was denied
	Remaining   int64  `json:"remaining"`             // tokens that were left, as far as the agent knew
	Unavailable bool   `json:"unavailable,omitempty"` // the take is not counted in etcd, and the limit allows takes then

	// RetryAfter is, of a denied take, the time until it should be tried again. It can be
	// granted then, at the earliest.
	RetryAfter discovery.Duration `json:"retry_after,omitzero"`
	Reason     string             `json:"reason,omitempty"` // why it was denied, or is not counted
}

// Limits lists the rate limits, sorted by name.
func (c *Client) Limits(ctx context.Context) ([]Limit, error) {
	var list []Limit
	_, err := c.call(ctx, request{method: "GET", path: "/v1/limits"}, &list)
	return list, err
}

// Limit returns a rate limit. ErrNotFound: there is no such limit.
func (c *Client) Limit(ctx context.Context, name string) (Limit, error) {
	var l Limit
	_, err := c.call(ctx, request{method: "GET", path: limitPath(name)}, &l)
	return l, err
}

// PutLimit creates or changes a rate limit. It returns the limit with its defaults filled in,
// whether it is new, and etcd's revision.
func (c *Client) PutLimit(ctx context.Context, name string, limit discovery.Limit) (l Limit, created bool, revision int64, err error) {
	body := struct {
		Rate          float64                     `json:"rate"`
		Per           discovery.Duration          `json:"per,omitzero"`
		Burst         int64                       `json:"burst,omitzero"`
		OnUnavailable discovery.UnavailablePolicy `json:"on_unavailable,omitzero"`
	}(limit)
	resp, err := c.call(ctx, request{method: "PUT", path: limitPath(name), body: body}, &l)
	if err != nil {
		return Limit{}, false, 0, err
	}
	return l, resp.StatusCode == http.StatusCreated, freshnessOf(resp.Header).Revision, nil
}

// DeleteLimit deletes a rate limit and returns etcd's revision. ErrNotFound: there is no such
// limit.
func (c *Client) DeleteLimit(ctx context.Context, name string) (int64, error) {
	resp, err := c.call(ctx, request{method: "DELETE", path: limitPath(name)}, nil)
	if err != nil {
		return 0, err
	}
	return freshnessOf(resp.Header).Revision, nil
}

// Take takes n tokens from a rate limit. A denied take is not an error. ErrNotFound: there is no
// such limit; ErrInvalid: the limit never has n tokens.
func (c *Client) Take(ctx context.Context, name string, n int64) (Taken, error) {
	var t Taken
	query := url.Values{}
	if n != 1 {
		query.Set("n", strconv.FormatInt(n, 10))
	}
	_, err := c.call(ctx, request{method: "POST", path: limitPath(name) + "/take", query: query}, &t)
	if p := (*Problem)(nil); errors.As(err, &p) && p.Status == http.StatusTooManyRequests {
		return Taken{Name: name, RetryAfter: p.RetryAfter, Reason: p.Detail}, nil
	}
	return t, err
}

func limitPath(name string) string { return "/v1/limits/" + url.PathEscape(name) }
