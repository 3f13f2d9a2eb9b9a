package agent

import (
	"context"
	"time"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/claim"
)

// claims claims instances for the HTTP API.
type claims struct {
	claims *claim.Claims
	zone   string // the agent's own
}

// Claim implements httpapi.Claims.
func (c claims) Claim(ctx context.Context, service string, o api.ClaimOptions) (api.Claim, <-chan struct{}, error) {
	options := claim.Request{Wait: o.Wait, TTL: o.TTL}
	if o.PreferZone {
		options.PreferZone = c.zone
	}
	g, err := c.claims.Claim(ctx, service, options)
	if err != nil {
		return api.Claim{}, nil, err
	}
	return claimOf(g), g.Lost(), nil
}

// RenewClaim implements httpapi.Claims.
func (c claims) RenewClaim(id string) (api.Claim, error) {
	g, err := c.claims.Renew(id)
	if err != nil {
		return api.Claim{}, err
	}
	return claimOf(g), nil
}

// ReleaseClaim implements httpapi.Claims.
func (c claims) ReleaseClaim(ctx context.Context, id string) (done bool, err error) {
	return c.claims.Release(ctx, id)
}

// Held implements httpapi.Claims.
func (c claims) Held(ctx context.Context, service string) (api.ClaimList, error) {
	held, truncated, err := c.claims.List(ctx, service)
	list := api.ClaimList{Claims: make([]api.HeldSlot, len(held)), Truncated: truncated}
	for n, h := range held {
		list.Claims[n] = api.HeldSlot(h)
	}
	return list, err
}

// claimOf returns a grant as the API shows a claim. ValidFor is rounded down.
func claimOf(g *claim.Grant) api.Claim {
	return api.Claim{
		ID: g.ID(), Service: g.Name(), Slot: g.Slot(), Fence: g.Fence(), TTL: discovery.Duration(g.TTL()),
		ValidFor: discovery.Duration(g.ValidFor().Truncate(time.Millisecond)), Endpoint: g.Endpoint(),
	}
}
