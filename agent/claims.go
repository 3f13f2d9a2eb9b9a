package agent

import (
	"context"
	"time"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/claim"
	"disc/discovery/etcd"
)

// claims claims instances on behalf of the HTTP API.
type claims struct {
	claims    *claim.Claims
	zone      string
	endpoints []string
}

// Claim implements httpapi.Claims.
func (c claims) Claim(ctx context.Context, service string, o api.ClaimOptions) (api.Claim, <-chan struct{}, error) {
	options := claim.Request{Wait: o.Wait, TTL: o.TTL}
	if o.PreferZone {
		options.PreferZone = c.zone
	}
	g, err := c.claims.Claim(ctx, service, options)
	if err != nil {
		return api.Claim{}, nil, etcd.Explain(c.endpoints, err)
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
func (c claims) ReleaseClaim(ctx context.Context, id string) bool {
	return c.claims.Release(ctx, id)
}

// claimOf shows a claim. What it says of the time is rounded down.
func claimOf(g *claim.Grant) api.Claim {
	return api.Claim{
		Claim: g.ID(), Service: g.Name(), Slot: g.Slot(), Fence: g.Fence(), TTL: discovery.Duration(g.TTL()),
		ValidFor: discovery.Duration(g.ValidFor().Truncate(time.Millisecond)), Endpoint: g.Endpoint(),
	}
}
