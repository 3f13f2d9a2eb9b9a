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

// agentSource answers from this host's agent, in a fixed order. An unknown name has no
// answers. Each request is made once: so that a rendering is consistent, and so that it
// waits for an unavailable agent only once.
type agentSource struct {
	agent   *api.Client
	answers map[string]any // by request
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

// agentAnswer is the agent's answer to a request.
type agentAnswer[T any] struct {
	all []T
	err error
}

// askOnce asks the agent, or returns its earlier answer to the same request.
func askOnce[T any](ctx context.Context, s *agentSource, request string, ask func(context.Context) ([]T, error)) ([]T, error) {
	a, ok := s.answers[request].(agentAnswer[T])
	if !ok {
		a.all, a.err = withAgentTimeout(ctx, ask)
		s.answers[request] = a
	}
	return a.all, a.err
}

// withAgentTimeout asks the agent, which is unavailable if it does not answer within
// [agentTimeout].
func withAgentTimeout[T any](ctx context.Context, ask func(context.Context) ([]T, error)) ([]T, error) {
	limited, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	all, err := ask(limited)
	switch {
	case errors.Is(err, discovery.ErrNotFound):
		return nil, nil
	case err != nil && limited.Err() != nil && ctx.Err() == nil:
		return nil, discovery.Errorf(discovery.ErrUnavailable, "%v: no answer within %v", err, agentTimeout)
	}
	return all, err
}
