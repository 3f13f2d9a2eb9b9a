package api

import (
	"context"
	"net/url"

	"disc/discovery"
	"disc/discovery/view"
)

// ListOptions are the options of a list of instances.
type ListOptions struct {
	Select
	Status discovery.Status // only those with this status; empty: all
	Wait   Wait
}

// Services lists the services, sorted by name. ErrUnavailable: the agent has no view yet.
func (c *Client) Services(ctx context.Context, wait Wait) ([]Service, Freshness, error) {
	var list []Service
	v, err := c.list(ctx, "/v1/services", url.Values{}, wait, &list)
	return list, v, err
}

// Instances lists a service's instances, sorted by id. ErrNotFound: there is no such service.
func (c *Client) Instances(ctx context.Context, service string, o ListOptions) ([]view.Entry, Freshness, error) {
	q := url.Values{}
	o.Select.set(q)
	setUnlessEmpty(q, "status", string(o.Status))
	var list []view.Entry
	v, err := c.list(ctx, "/v1/services/"+url.PathEscape(service), q, o.Wait, &list)
	return list, v, err
}

// Instance returns an instance. ErrNotFound: there is no such instance.
func (c *Client) Instance(ctx context.Context, service, id string, wait Wait) (view.Entry, Freshness, error) {
	var e view.Entry
	v, err := c.list(ctx, instancePath(service, id), url.Values{}, wait, &e)
	return e, v, err
}

// Nodes lists the agents, sorted by node.
func (c *Client) Nodes(ctx context.Context, wait Wait) ([]discovery.Node, Freshness, error) {
	var list []discovery.Node
	v, err := c.list(ctx, "/v1/nodes", url.Values{}, wait, &list)
	return list, v, err
}

// Targets lists the scrape targets of services, or without services of all, as Prometheus gets
// them (http_sd). ErrUnavailable: the agent has no view yet.
func (c *Client) Targets(ctx context.Context, services []string) ([]TargetGroup, Freshness, error) {
	var list []TargetGroup
	v, err := c.list(ctx, "/v1/sd/prometheus", url.Values{"service": services}, Wait{}, &list)
	return list, v, err
}

// Agent returns the agent's own status.
func (c *Client) Agent(ctx context.Context) (Agent, error) {
	var a Agent
	_, err := c.call(ctx, request{method: "GET", path: "/v1/agent"}, &a)
	return a, err
}

// Ready returns nil if the agent has a view and all its registrations are in etcd, otherwise an
// ErrUnavailable that says what is missing.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.call(ctx, request{method: "GET", path: "/readyz"}, nil)
	return err
}

func (c *Client) list(ctx context.Context, path string, q url.Values, wait Wait, into any) (Freshness, error) {
	wait.set(q)
	resp, err := c.call(ctx, request{method: "GET", path: path, query: q}, into)
	if err != nil {
		return Freshness{}, err
	}
	return freshnessOf(resp.Header), nil
}

func instancePath(service, id string) string {
	return "/v1/services/" + url.PathEscape(service) + "/instances/" + url.PathEscape(id)
}
