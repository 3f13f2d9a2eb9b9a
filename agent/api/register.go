package api

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"disc/discovery"
	"disc/discovery/view"
)

// Registered is the result of a registration.
type Registered struct {
	Entry   view.Entry // as lookups show it; its Revision is that of the write, 0 if not written
	Created bool       // the agent had no such registration before
	Written bool       // it is in etcd; if not, the agent will write it
	Warning string     // what the caller may not expect; empty: none
}

// Deregistered is the result of a deregistration.
type Deregistered struct {
	Revision int64  // etcd's, of the write; 0 if not written
	Written  bool   // it is removed from etcd; if not, the agent will remove it
	Warning  string // what the caller may not expect; empty: none
}

// Register registers an instance through the agent, which saves the registration and keeps it in
// etcd. ErrInvalid: the registration is not valid; ErrForbidden: the API may not add one of its
// checks, or the instance is in the agent's config file; ErrConflict: another owner has it. On
// an error nothing is saved.
func (c *Client) Register(ctx context.Context, r discovery.Registration) (Registered, error) {
	var e view.Entry
	resp, err := c.call(ctx, request{method: "PUT", path: instancePath(r.Service, r.ID), body: r}, &e)
	if err != nil {
		return Registered{}, err
	}
	return registered(resp, e), nil
}

// registered returns the result that a response and its body stand for.
func registered(resp *http.Response, e view.Entry) Registered {
	return Registered{
		Entry:   e,
		Created: resp.StatusCode == http.StatusCreated,
		Written: resp.StatusCode != http.StatusAccepted,
		Warning: warningOf(resp.Header),
	}
}

// Deregister deregisters an instance through the agent that registered it. ErrNotFound: the agent
// has no such instance; ErrForbidden: it is in the agent's config file; ErrConflict: another client
// holds it. The client that holds it may.
func (c *Client) Deregister(ctx context.Context, service, id string) (Deregistered, error) {
	return c.deregister(ctx, service, id, nil)
}

// DeregisterHeld is Deregister, also for an instance that another client holds, which is told.
func (c *Client) DeregisterHeld(ctx context.Context, service, id string) (Deregistered, error) {
	return c.deregister(ctx, service, id, url.Values{"force": {""}})
}

func (c *Client) deregister(ctx context.Context, service, id string, query url.Values) (Deregistered, error) {
	resp, err := c.call(ctx, request{method: "DELETE", path: instancePath(service, id), query: query, header: c.holderHeader()}, nil)
	if err != nil {
		return Deregistered{}, err
	}
	return Deregistered{
		Revision: freshnessOf(resp.Header).Revision,
		Written:  resp.StatusCode != http.StatusAccepted,
		Warning:  warningOf(resp.Header),
	}, nil
}

// warningOf returns the warnings of a response as one text; "" if there is none.
func warningOf(h http.Header) string { return strings.Join(h.Values(HeaderWarning), "; ") }

// ReportCheck reports the result of a ttl check. ErrNotFound: the agent has no such instance, or
// that no such check; ErrInvalid: the check is of another type, or the status is not valid.
func (c *Client) ReportCheck(ctx context.Context, service, id, check string, report CheckReport) error {
	path := instancePath(service, id) + "/checks/" + url.PathEscape(check)
	_, err := c.call(ctx, request{method: "PUT", path: path, body: report}, nil)
	return err
}

// ReportLoad reports the utilization of an instance that the agent has registered. A report
// counts for [discovery.LoadReportTTL]: repeat it. ErrNotFound: the agent has no such instance;
// ErrConflict: another agent has it.
func (c *Client) ReportLoad(ctx context.Context, service, id string, load discovery.LoadReport) error {
	_, err := c.call(ctx, request{method: "PUT", path: instancePath(service, id) + "/load", body: load}, nil)
	return err
}

// PatchOverride applies a merge patch (RFC 7396) to an instance's override. It returns the new
// override and etcd's revision. ErrNotFound: there is no such instance; ErrForbidden: the agent
// requires a token with scope operate.
func (c *Client) PatchOverride(ctx context.Context, service, id string, patch []byte) (discovery.Override, int64, error) {
	var o discovery.Override
	resp, err := c.call(ctx, request{
		method: "PATCH", path: instancePath(service, id) + "/override",
		header: http.Header{"Content-Type": {TypeMergePatch}}, body: patch,
	}, &o)
	if err != nil {
		return discovery.Override{}, 0, err
	}
	return o, freshnessOf(resp.Header).Revision, nil
}

// DeleteOverride deletes an instance's override and returns etcd's revision. ErrNotFound: there
// is no override.
func (c *Client) DeleteOverride(ctx context.Context, service, id string) (int64, error) {
	resp, err := c.call(ctx, request{method: "DELETE", path: instancePath(service, id) + "/override"}, nil)
	if err != nil {
		return 0, err
	}
	return freshnessOf(resp.Header).Revision, nil
}
