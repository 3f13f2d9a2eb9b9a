package api

import (
	"context"
	"net/url"
	"strconv"

	"disc/discovery"
)

// Numbers of changes in an answer.
const (
	DefaultHistoryLimit = 1000
	MaxHistoryLimit     = 10_000
)

// Types of the events of a stream of changes.
const (
	HistoryReset  = "reset"  // a History without changes: the stream does not go on after the cursor that was given
	HistoryChange = "change" // a [discovery.Change]
)

// History are changes that an agent saw.
type History struct {
	Begins    *discovery.ChangeStart `json:"begins"`              // from where on it has all changes that were asked for; nil: it has seen none
	Changes   []discovery.Change     `json:"changes"`             // oldest first
	Truncated bool                   `json:"truncated,omitempty"` // there are older ones or, with HistoryQuery.After, newer ones
	Skipped   bool                   `json:"skipped,omitempty"`   // with HistoryQuery.After: there were newer ones before these, which the agent has dropped
	Watched   bool                   `json:"watched"`             // the agent sees the changes that are to come
	End       string                 `json:"end"`                 // the cursor of the agent's newest change, whatever was asked for
}

// HistoryQuery selects changes. The zero value selects the newest of all services.
type HistoryQuery struct {
	Service string // empty: all
	ID      string // with a service; empty: all
	Since   string // a duration before now, such as 10m, or a time (RFC 3339)
	Until   string // as Since
	Before  string // a cursor: changes before it
	After   string // a cursor: changes after it, the oldest first
	Limit   int    // up to MaxHistoryLimit; 0: DefaultHistoryLimit
}

// History reads changes that the agent saw. ErrNotFound: the agent keeps none; ErrInvalid: a cursor
// is not one of this run of the agent.
func (c *Client) History(ctx context.Context, q HistoryQuery) (History, error) {
	values := url.Values{}
	for name, value := range map[string]string{
		"service": q.Service, "id": q.ID, "since": q.Since, "until": q.Until, "before": q.Before, "after": q.After,
	} {
		setUnlessEmpty(values, name, value)
	}
	if q.Limit != 0 {
		values.Set("limit", strconv.Itoa(q.Limit))
	}
	var h History
	_, err := c.call(ctx, request{method: "GET", path: "/v1/history", query: values}, &h)
	return h, err
}
