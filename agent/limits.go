package agent

import (
	"context"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/limit"
)

// limits gives the HTTP API the rate limits, in the API's types.
type limits struct{ *limit.Limits }

// List implements httpapi.Limits.
func (l limits) List(ctx context.Context, usage bool) ([]api.Limit, error) {
	policies, _, err := l.Limits.List(ctx)
	if err != nil {
		return nil, err
	}
	var used map[string]limit.Usage
	if usage {
		if used, err = l.Usage(ctx); err != nil {
			return nil, err
		}
	}
	list := make([]api.Limit, len(policies))
	for n, p := range policies {
		list[n] = api.Limit{Name: p.Name, Limit: p.Limit}
		if usage {
			u := api.LimitUsage(used[p.Name])
			list[n].Usage = &u
		}
	}
	return list, nil
}

// Get implements httpapi.Limits.
func (l limits) Get(ctx context.Context, name string) (discovery.Limit, error) {
	p, err := l.Limits.Get(ctx, name)
	return p.Limit, err
}

// Put implements httpapi.Limits.
func (l limits) Put(ctx context.Context, name string, limit discovery.Limit) (discovery.Limit, bool, int64, error) {
	p, created, err := l.Limits.Put(ctx, name, limit)
	return p.Limit, created, p.Revision, err
}
