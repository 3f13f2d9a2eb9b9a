package api

import (
	"context"
	"net/url"
	"time"

	"disc/discovery"
)

// Claim is a claimed slot of an instance.
type Claim struct {
	ID       string             `json:"claim"` // its id, to renew and release it
	Service  string             `json:"service"`
	Slot     int                `json:"slot"`          // of the instance, from 0
	Fence    int64              `json:"fence"`         // fencing token: higher than that of any earlier claim on the slot
	TTL      discovery.Duration `json:"ttl,omitempty"` // time within which to renew it; absent: it lasts as long as its request
	ValidFor discovery.Duration `json:"valid_for"`     // nobody else gets it for so long, counted from the request
	Endpoint discovery.Endpoint `json:"endpoint"`      // the instance
}

// ClaimRequest is the body of a claim.
type ClaimRequest struct {
	TTL *discovery.Duration `json:"ttl,omitempty"` // default DefaultTTL
}

// ClaimOptions are the options of a claim. The zero value is useful.
type ClaimOptions struct {
	Wait       time.Duration // for a free slot, up to MaxWait; 0: do not wait
	TTL        time.Duration // time within which to renew it, MinTTL to MaxTTL; default DefaultTTL
	PreferZone bool          // prefer instances in the agent's own zone
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

// HeldSlot is a claimed slot of an instance, as etcd has it.
type HeldSlot struct {
	Service  string    `json:"service"`
	Instance string    `json:"instance"`
	Slot     int       `json:"slot"`
	Holder   string    `json:"holder"`         // the short form of the claim's id: the session, and some of the rest
	Node     string    `json:"node,omitempty"` // of the claimant's agent
	Asked    time.Time `json:"asked,omitzero"` // when it was claimed
	Fence    int64     `json:"fence"`
}

// ClaimList is the claimed slots, sorted by service, instance and slot.
type ClaimList struct {
	Claims    []HeldSlot `json:"claims"`
	Truncated bool       `json:"truncated,omitempty"` // there are too many; some are missing
}

// Claims lists the claimed slots of a service, or of all services if it is "", as etcd has them.
func (c *Client) Claims(ctx context.Context, service string) (ClaimList, error) {
	q := url.Values{}
	if service != "" {
		q.Set("service", service)
	}
	var list ClaimList
	_, err := c.call(ctx, request{method: "GET", path: "/v1/claims", query: q}, &list)
	return list, err
}

func claimPath(name string) string { return "/v1/claims/" + url.PathEscape(name) }

// Claim claims a free slot of a healthy instance of a service. Renew it within its TTL with
// [Client.RenewClaim]. ErrNotFound: there is no such service; ErrUnavailable: no slot is free.
func (c *Client) Claim(ctx context.Context, service string, o ClaimOptions) (Claim, error) {
	var claim Claim
	_, err := c.call(ctx, o.request(service), &claim)
	return claim, err
}

// HeldClaim is a claim that lasts as long as its open request.
type HeldClaim struct {
	Claim
	*HeldRequest
}

// HoldClaim claims a slot for as long as the request is open: until Close, or until ctx ends. The
// agent ends the request when the claim is lost, for example because the instance is gone. The
// caller runs [HeldRequest.Wait], and closes the claim. o.TTL must be 0.
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

// RenewClaim restarts a claim's TTL. The ValidFor that it returns counts from the call.
// ErrLost: the claim is lost; ErrNotFound: the agent has no such claim.
func (c *Client) RenewClaim(ctx context.Context, claim string) (Claim, error) {
	var renewed Claim
	_, err := c.call(ctx, request{method: "PUT", path: claimPath(claim)}, &renewed)
	return renewed, err
}

// ReleaseClaim releases a claim. It succeeds for an unknown claim, too. ErrLost: the claim had
// ended before, so that another caller may have had the slot meanwhile; the error says why.
func (c *Client) ReleaseClaim(ctx context.Context, claim string) error {
	_, err := c.call(ctx, request{method: "DELETE", path: claimPath(claim)}, nil)
	return err
}
