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
	"disc/discovery/view"
)

// agentSource is what this host's agent answers, in a fixed order. A name that it does
// not know has nothing. Each thing is asked once, so that one rendering does not
// contradict itself, and an agent that is away is not waited for again and again.
type agentSource struct {
	agent   *api.Client
	answers map[string]any // by what was asked
}

func newAgentSource(agent *api.Client) *agentSource { return &agentSource{agent, map[string]any{}} }

func (s *agentSource) Service(ctx context.Context, name string) ([]discovery.Endpoint, error) {
	return askOnce(ctx, s, "service "+name, func(ctx context.Context) ([]discovery.Endpoint, error) {
		answer, _, err := s.agent.Lookup(ctx, name, api.LookupOptions{})
		slices.SortFunc(answer.Endpoints, func(a, b discovery.Endpoint) int {
			return cmp.Or(strings.Compare(a.ID, b.ID), strings.Compare(a.Address, b.Address))
		})
		return answer.Endpoints, err
	})
}

func (s *agentSource) Instances(ctx context.Context, service string) ([]view.Entry, error) {
	return askOnce(ctx, s, "instances "+service, func(ctx context.Context) ([]view.Entry, error) {
		entries, _, err := s.agent.Instances(ctx, service, api.ListOptions{})
		return entries, err
	})
}

func (s *agentSource) Services(ctx context.Context) ([]render.Service, error) {
	return askOnce(ctx, s, "services", func(ctx context.Context) ([]render.Service, error) {
		services, _, err := s.agent.Services(ctx, api.Wait{})
		var all []render.Service
		for _, one := range services {
			all = append(all, render.Service{Name: one.Service, Healthy: one.Healthy, Total: one.Total, Tags: one.Tags})
		}
		return all, err
	})
}

func (s *agentSource) Nodes(ctx context.Context) ([]discovery.Node, error) {
	return askOnce(ctx, s, "nodes", func(ctx context.Context) ([]discovery.Node, error) {
		nodes, _, err := s.agent.Nodes(ctx, api.Wait{})
		return nodes, err
	})
}

// agentAnswer is what the agent said.
type agentAnswer[T any] struct {
	all []T
	err error
}

// askOnce asks the agent one thing, unless it has answered that already.
func askOnce[T any](ctx context.Context, s *agentSource, what string, ask func(context.Context) ([]T, error)) ([]T, error) {
	a, ok := s.answers[what].(agentAnswer[T])
	if !ok {
		a.all, a.err = withAgentTimeout(ctx, ask)
		s.answers[what] = a
	}
	return a.all, a.err
}

// withAgentTimeout asks the agent under the time that it has. One that does not answer within it
// is away.
func withAgentTimeout[T any](ctx context.Context, ask func(context.Context) ([]T, error)) ([]T, error) {
	limited, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	all, err := ask(limited)
	switch {
	case errors.Is(err, discovery.ErrNotFound):
		return nil, nil
	case err != nil && limited.Err() != nil && ctx.Err() == nil:
		return nil, discovery.Errorf(discovery.ErrUnavailable, "%v: it did not answer within %v", err, agentTimeout)
	}
	return all, err
}
