package cli

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"disc/agent/api"
	"disc/cli/render"
	"disc/discovery"
)

// agentSource is what this host's agent answers, in a fixed order. A name that it does
// not know has nothing.
type agentSource struct{ agent *api.Client }

func (s agentSource) Service(ctx context.Context, name string) ([]discovery.Endpoint, error) {
	return asked(ctx, func(ctx context.Context) ([]discovery.Endpoint, error) {
		answer, _, err := s.agent.Lookup(ctx, name, api.LookupOptions{})
		slices.SortFunc(answer.Endpoints, func(a, b discovery.Endpoint) int {
			return cmp.Or(strings.Compare(a.ID, b.ID), strings.Compare(a.Address, b.Address))
		})
		return answer.Endpoints, err
	})
}

func (s agentSource) Instances(ctx context.Context, service string) ([]discovery.Entry, error) {
	return asked(ctx, func(ctx context.Context) ([]discovery.Entry, error) {
		entries, _, err := s.agent.Instances(ctx, service, api.ListOptions{})
		return entries, err
	})
}

func (s agentSource) Services(ctx context.Context) ([]render.Service, error) {
	return asked(ctx, func(ctx context.Context) ([]render.Service, error) {
		services, _, err := s.agent.Services(ctx, api.Wait{})
		var all []render.Service
		for _, one := range services {
			all = append(all, render.Service{Name: one.Service, Healthy: one.Healthy, Total: one.Total, Tags: one.Tags})
		}
		return all, err
	})
}

func (s agentSource) Nodes(ctx context.Context) ([]discovery.Node, error) {
	return asked(ctx, func(ctx context.Context) ([]discovery.Node, error) {
		nodes, _, err := s.agent.Nodes(ctx, api.Wait{})
		return nodes, err
	})
}

// asked asks the agent one thing, under the time that it has for it. An agent that does
// not answer in time is away.
func asked[T any](ctx context.Context, ask func(context.Context) ([]T, error)) ([]T, error) {
	limited, cancel := context.WithTimeout(ctx, agentTime)
	defer cancel()
	all, err := ask(limited)
	switch {
	case errors.Is(err, discovery.ErrNotFound):
		return nil, nil
	case err != nil && limited.Err() != nil && ctx.Err() == nil:
		return nil, discovery.Errorf(discovery.ErrUnavailable, "%v: it did not answer within %v", err, agentTime)
	}
	return all, err
}
