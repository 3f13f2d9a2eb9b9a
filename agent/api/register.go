package api

import (
	"context"
	"net/http"
	"net/url"

	"disc/discovery"
	"disc/discovery/view"
)

// Registered is what became of a registration.
type Registered struct {
	Entry   view.Entry // as it is shown; Revision is that of the write, 0 when not written
	Created bool       // the agent had no such registration before
	Written bool       // it is in etcd; else it is remembered, and will be
	Warning string     // what the caller may not expect; empty: nothing
}

// Deregistered is what became of a deregistration.
type Deregistered struct {
	Revision int64 // etcd's, of the write; 0 when not written
	Written  bool  // it is gone from etcd; else it will be
}

// Register registers an instance through the agent, which remembers it.
// ErrConflict: another owner holds it; nothing is remembered.
func (c *Client) Register(ctx context.Context, r discovery.Registration) (Registered, error) {
	var e view.Entry
	resp, err := c.call(ctx, request{method: "PUT", path: instancePath(r.Service, r.ID), body: r}, &e)
	if err != nil {
		return Registered{}, err
	}
	return registered(resp, e), nil
}

func registered(resp *http.Response, e view.Entry) Registered {
	return Registered{
		Entry:   e,
		Created: resp.StatusCode == http.StatusCreated,
		Written: resp.StatusCode != http.StatusAccepted,
		Warning: resp.Header.Get(HeaderWarning),
	}
}

// Deregister takes an instance out through the agent that registered it, and makes
// the agent forget it. ErrNotFound: the agent has no such instance; ErrForbidden: it
// comes from the agent's config file.
func (c *Client) Deregister(ctx context.Context, service, id string) (Deregistered, error) {
	resp, err := c.call(ctx, request{method: "DELETE", path: instancePath(service, id)}, nil)
	if err != nil {
		return Deregistered{}, err
	}
	return Deregistered{Revision: freshnessOf(resp.Header).Revision, Written: resp.StatusCode != http.StatusAccepted}, nil
}

// ReportCheck reports the result of a ttl check.
func (c *Client) ReportCheck(ctx context.Context, service, id, check string, report CheckReport) error {
	path := instancePath(service, id) + "/checks/" + url.PathEscape(check)
	_, err := c.call(ctx, request{method: "PUT", path: path, body: report}, nil)
	return err
}

// ReportLoad reports how busy an instance of the agent's own is. A report counts for
// [discovery.LoadLasts]: repeat it. ErrNotFound: the agent has no such instance;
// ErrConflict: another agent has it.
func (c *Client) ReportLoad(ctx context.Context, service, id string, load discovery.LoadReport) error {
	_, err := c.call(ctx, request{method: "PUT", path: instancePath(service, id) + "/load", body: load}, nil)
	return err
}

// PatchOverride lays a merge patch (RFC 7396) over an instance's override and
// returns what it is now, with etcd's revision. ErrForbidden: the agent wants a
// token for that.
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

// DeleteOverride removes an instance's override and returns etcd's revision.
// ErrNotFound: there is none.
func (c *Client) DeleteOverride(ctx context.Context, service, id string) (int64, error) {
	resp, err := c.call(ctx, request{method: "DELETE", path: instancePath(service, id) + "/override"}, nil)
	if err != nil {
		return 0, err
	}
	return freshnessOf(resp.Header).Revision, nil
}
