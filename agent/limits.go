package agent

import (
	"context"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/etcd"
	"disc/discovery/limit"
)

// limits keeps rate limits on behalf of the HTTP API and of Envoy.
type limits struct {
	*limit.Limits
	endpoints []string
}

// Take implements httpapi.Limits.
func (l limits) Take(ctx context.Context, name string, n int64) (discovery.Decision, error) {
	d, err := l.Limits.Take(ctx, name, n)
	if err != nil {
		return d, etcd.Explain(l.endpoints, err)
	}
	return d, nil
}

// TakeAll implements envoy.Limits.
func (l limits) TakeAll(ctx context.Context, takes []discovery.Take) ([]discovery.Decision, error) {
	d, err := l.Limits.TakeAll(ctx, takes)
	return d, etcd.Explain(l.endpoints, err)
}

// Known implements envoy.Limits.
func (l limits) Known(ctx context.Context, name string) (bool, error) {
	known, err := l.Limits.Known(ctx, name)
	return known, etcd.Explain(l.endpoints, err)
}

// List implements httpapi.Limits.
func (l limits) List(ctx context.Context) ([]api.Limit, error) {
	policies, _, err := l.Limits.List(ctx)
	if err != nil {
		return nil, etcd.Explain(l.endpoints, err)
	}
	list := make([]api.Limit, len(policies))
	for n, p := range policies {
		list[n] = api.Limit{Name: p.Name, Limit: p.Limit}
	}
	return list, nil
}

// Get implements httpapi.Limits.
func (l limits) Get(ctx context.Context, name string) (discovery.Limit, error) {
	p, err := l.Limits.Get(ctx, name)
	return p.Limit, etcd.Explain(l.endpoints, err)
}

// Put implements httpapi.Limits.
func (l limits) Put(ctx context.Context, name string, limit discovery.Limit) (discovery.Limit, bool, int64, error) {
	p, created, err := l.Limits.Put(ctx, name, limit)
	return p.Limit, created, p.Revision, etcd.Explain(l.endpoints, err)
}

// Delete implements httpapi.Limits.
func (l limits) Delete(ctx context.Context, name string) (int64, error) {
	revision, err := l.Limits.Delete(ctx, name)
	return revision, etcd.Explain(l.endpoints, err)
}
