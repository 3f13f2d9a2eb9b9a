package api

import (
	"context"
	"net/url"
	"time"

	"disc/discovery"
)

// Suspect is an instance that vanished together with many others and is still in the agent's view.
type Suspect struct {
	Service string `json:"service"`
	ID      string `json:"id"`
	Node    string `json:"node"`
	Address string `json:"address"`
	Port    int    `json:"port"`
	Zone    string `json:"zone,omitempty"`

	Order *discovery.SuspectOrder `json:"order,omitempty"` // of an operator; nil: the guard decides
}

// SuspectList are the suspects of an agent's view.
type SuspectList struct {
	Suspects []Suspect `json:"suspects"`
}

// OrderedSuspect is an order that was given on a suspect.
type OrderedSuspect struct {
	Service string `json:"service"`
	ID      string `json:"id"`
	discovery.SuspectOrder
}

// Suspects lists the suspects of the agent's view, or those of one service, sorted by service and
// id.
func (c *Client) Suspects(ctx context.Context, service string) (SuspectList, error) {
	r := request{method: "GET", path: "/v1/suspects"}
	if service != "" {
		r.query = url.Values{"service": {service}}
	}
	var list SuspectList
	_, err := c.call(ctx, r, &list)
	return list, err
}

// OrderSuspect orders all agents to drop or to keep a suspect; keep is the time of an order to
// keep. ErrNotFound: it is none; ErrConflict: it is registered again, or an agent of the namespace
// does not know orders; ErrForbidden: the token lacks scope operate, or the agent has none.
func (c *Client) OrderSuspect(ctx context.Context, service, id, order string, keep time.Duration) (OrderedSuspect, error) {
	query := url.Values{"order": {order}}
	if order == discovery.KeepSuspect {
		query.Set("for", keep.String())
	}
	var given OrderedSuspect
	_, err := c.call(ctx, request{method: "PUT", path: "/v1/suspects/" + url.PathEscape(service) + "/" + url.PathEscape(id), query: query}, &given)
	return given, err
}
