package api

import (
	"context"
	"net/url"
	"time"

	"disc/discovery"
)

// Claim is a slot of an instance that is claimed.
type Claim struct {
	Claim    string             `json:"claim"` // its id: to renew and to release it
	Service  string             `json:"service"`
	Slot     int                `json:"slot"`          // of the instance, from 0
	Fence    int64              `json:"fence"`         // higher than that of any claim on the slot before
	TTL      discovery.Duration `json:"ttl,omitempty"` // within which it is to be renewed; absent: it is bound to an open request
	ValidFor discovery.Duration `json:"valid_for"`     // nobody else has it until then, counted from when this was asked for
	Endpoint discovery.Endpoint `json:"endpoint"`      // the instance
}

// ClaimRequest is what a claim may say of itself.
type ClaimRequest struct {
	TTL *discovery.Duration `json:"ttl,omitempty"` // default DefaultTTL
}

// ClaimOptions say how an instance is claimed.
type ClaimOptions struct {
	Wait       time.Duration // how long to wait for a free slot; 0: do not
	TTL        time.Duration // within which the claim is to be renewed; default DefaultTTL
	PreferZone bool          // instances of the agent's own zone first
}

func (o ClaimOptions) request(service string) request {
	r := request{method: "POST", path: claimPath(service), query: url.Values{}}
	if o.Wait > 0 {
		r.query.Set("wait", o.Wait.String())
	}
	if o.PreferZone {
		r.query.Set("prefer", "zone")
	}
	if o.TTL > 0 {
		ttl := discovery.Duration(o.TTL)
		r.body = ClaimRequest{&ttl}
	}
	return r
}

func claimPath(name string) string { return "/v1/claims/" + url.PathEscape(name) }

// Claim claims a free slot of a healthy instance of a service, to be renewed within its
// TTL with [Client.RenewClaim]. ErrNotFound: there is no such service; ErrUnavailable:
// nothing is free.
func (c *Client) Claim(ctx context.Context, service string, o ClaimOptions) (Claim, error) {
	var claim Claim
	_, err := c.call(ctx, o.request(service), &claim)
	return claim, err
}

// HeldClaim is a claim that is bound to an open request.
type HeldClaim struct {
	Claim
	*OpenRequest
}

// HoldClaim claims a slot for as long as the request is open: until Close, or until ctx
// ends. The agent ends the request when the claim is lost, as when the instance is gone.
// The caller runs [OpenRequest.Wait], and closes what it got.
func (c *Client) HoldClaim(ctx context.Context, service string, o ClaimOptions) (*HeldClaim, error) {
	r := o.request(service)
	r.query.Set("hold", "")
	var claim Claim
	open, _, err := c.open(ctx, r, &claim)
	if err != nil {
		return nil, err
	}
	return &HeldClaim{claim, open}, nil
}

// RenewClaim begins a claim's TTL anew, and tells how long it can be relied on from when
// this is called. ErrLost: it is lost; ErrNotFound: the agent knows of no such claim.
func (c *Client) RenewClaim(ctx context.Context, claim string) (Claim, error) {
	var renewed Claim
	_, err := c.call(ctx, request{method: "PUT", path: claimPath(claim)}, &renewed)
	return renewed, err
}

// ReleaseClaim releases a claim, whether it is held, lost or not known any more.
func (c *Client) ReleaseClaim(ctx context.Context, claim string) error {
	_, err := c.call(ctx, request{method: "DELETE", path: claimPath(claim)}, nil)
	return err
}
