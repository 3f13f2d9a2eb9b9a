package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"disc/discovery"
)

// The problem types of a take that was denied (draft-ietf-httpapi-ratelimit-headers).
const (
	ProblemQuota    = "https://iana.org/assignments/http-problem-types#quota-exceeded"
	ProblemCapacity = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
)

// The headers of a take (draft-ietf-httpapi-ratelimit-headers).
const (
	HeaderRateLimit       = "Ratelimit"        // what is left: "sms";r=49;t=1
	HeaderRateLimitPolicy = "Ratelimit-Policy" // what the limit is: "sms";q=50;w=1
)

// Limit is a fleet-wide rate limit with its name.
type Limit struct {
	Name string `json:"name"`
	discovery.Limit
}

// Taken is what became of a take.
type Taken struct {
	Name        string `json:"name"`
	Taken       int64  `json:"taken"`                 // 0: it was denied
	Remaining   int64  `json:"remaining"`             // tokens that were left, as far as the agent knew
	Unavailable bool   `json:"unavailable,omitempty"` // etcd is away, and the limit lets through what it cannot count

	// RetryAfter is, of a take that was denied, when it may be granted at the earliest,
	// and Reason why it was.
	RetryAfter discovery.Duration `json:"retry_after,omitzero"`
	Reason     string             `json:"reason,omitempty"`
}

// Limits lists the rate limits, sorted by name.
func (c *Client) Limits(ctx context.Context) ([]Limit, error) {
	var list []Limit
	_, err := c.call(ctx, request{method: "GET", path: "/v1/limits"}, &list)
	return list, err
}

// Limit gets a rate limit. ErrNotFound: there is none.
func (c *Client) Limit(ctx context.Context, name string) (Limit, error) {
	var l Limit
	_, err := c.call(ctx, request{method: "GET", path: limitPath(name)}, &l)
	return l, err
}

// PutLimit makes or changes a rate limit, and returns it with its defaults and etcd's
// revision. created: there was none.
func (c *Client) PutLimit(ctx context.Context, name string, limit discovery.Limit) (l Limit, created bool, revision int64, err error) {
	body := struct {
		Rate          float64               `json:"rate"`
		Per           discovery.Duration    `json:"per,omitzero"`
		Burst         int64                 `json:"burst,omitzero"`
		OnUnavailable discovery.Unavailable `json:"on_unavailable,omitzero"`
	}(limit)
	resp, err := c.call(ctx, request{method: "PUT", path: limitPath(name), body: body}, &l)
	if err != nil {
		return Limit{}, false, 0, err
	}
	return l, resp.StatusCode == http.StatusCreated, freshnessOf(resp.Header).Revision, nil
}

// DeleteLimit removes a rate limit, and returns etcd's revision. ErrNotFound: there is
// none.
func (c *Client) DeleteLimit(ctx context.Context, name string) (int64, error) {
	resp, err := c.call(ctx, request{method: "DELETE", path: limitPath(name)}, nil)
	if err != nil {
		return 0, err
	}
	return freshnessOf(resp.Header).Revision, nil
}

// Take takes n tokens of a rate limit. A take that was denied is no error.
// ErrNotFound: there is no such limit.
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
