package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/registry"
	"disc/discovery/view"
)

// settleTimeout is how long a caller waits for its registration to be in etcd before it
// is told that this will come later.
const settleTimeout = 2 * time.Second

var errStopping = discovery.Errorf(discovery.ErrUnavailable, "this agent is stopping and registers nothing new; ask again when it is back")

// Register implements httpapi.Registrar.
func (g *registrar) Register(ctx context.Context, spec discovery.Registration) (api.Registered, error) {
	end, err := g.locks.Lock(ctx, keyOf(spec.Service, spec.ID))
	if err != nil {
		return api.Registered{}, err
	}
	defer end()
	done, err := g.registerAndWait(ctx, spec, api.FromAPI)
	if err == nil {
		g.save()
	}
	return done, err
}

// Hold implements httpapi.Registrar.
func (g *registrar) Hold(ctx context.Context, spec discovery.Registration) (api.Registered, func(), error) {
	end, err := g.locks.Lock(ctx, keyOf(spec.Service, spec.ID))
	if err != nil {
		return api.Registered{}, nil, err
	}
	defer end()
	if r, ok := g.get(spec.Service, spec.ID); ok && r.held() {
		return api.Registered{}, nil, discovery.Errorf(discovery.ErrConflict, "%s/%s is held by another open request to this agent; choose another id or end that one", spec.Service, spec.ID)
	}
	done, err := g.registerAndWait(ctx, spec, api.FromHold)
	if err != nil {
		return api.Registered{}, nil, err
	}
	r, _ := g.get(spec.Service, spec.ID)
	return done, r.hold(), nil
}

// registerAndWait registers an instance that a caller has given, and waits until it is in etcd.
// A conflict leaves everything as it was.
func (g *registrar) registerAndWait(ctx context.Context, spec discovery.Registration, source api.RegistrationSource) (api.Registered, error) {
	if g.stopping() {
		return api.Registered{}, errStopping
	}
	if r, ok := g.get(spec.Service, spec.ID); ok && r.source != source {
		if r.source == api.FromConfig {
			return api.Registered{}, fromConfig(spec.Service, spec.ID)
		}
		return api.Registered{}, discovery.Errorf(discovery.ErrConflict, "%s/%s is registered on this agent already, as %s; deregister it first", spec.Service, spec.ID, r.source)
	}
	before, err := g.put(spec, source)
	if err != nil {
		return api.Registered{}, err
	}
	state, err := g.awaitSettled(ctx, spec.Service, spec.ID)
	switch {
	case state.Phase == registry.InConflict:
		err = state.Err
	case err != nil && ctx.Err() != nil: // the caller is gone and will not know
	case g.stopping(): // the goodbye came in between
		err = errStopping
	default:
		err = nil // what is not written yet will be
	}
	if err != nil {
		g.rollBack(keyOf(spec.Service, spec.ID), before, source)
		return api.Registered{}, err
	}
	state.Instance.Status = cmp.Or(state.Instance.Status, discovery.Critical) // until the checks have spoken
	done := api.Registered{
		Entry:   view.Entry{Instance: state.Instance, State: discovery.Up, Source: view.SourceAgent},
		Created: before == nil,
		Written: state.Phase == registry.Written,
	}
	if done.Written {
		done.Entry.Revision = state.Revision
	} else {
		why := cmp.Or(g.explain(state.Err), fmt.Errorf("etcd has not taken it within %v", settleTimeout))
		done.Warning = fmt.Sprintf("remembered, and not in etcd yet: %v", why)
	}
	return done, nil
}

// rollBack puts back what a registration was to replace, and forgets the registration also
// where a change of another instance has kept it meanwhile.
func (g *registrar) rollBack(i instanceKey, before *registration, source api.RegistrationSource) {
	g.replace(i, before)
	if source == api.FromAPI {
		g.save()
	}
}

// awaitSettled waits until an instance is in etcd, or etcd turns out to be away.
func (g *registrar) awaitSettled(ctx context.Context, service, id string) (registry.State, error) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	return g.registry.AwaitSettled(ctx, service, id)
}

func fromConfig(service, id string) error {
	return discovery.Errorf(discovery.ErrForbidden, "%s/%s comes from the config file; change it there and reload the agent", service, id)
}

// Deregister implements httpapi.Registrar.
func (g *registrar) Deregister(ctx context.Context, service, id string) (api.Deregistered, error) {
	end, err := g.locks.Lock(ctx, keyOf(service, id))
	if err != nil {
		return api.Deregistered{}, err
	}
	defer end()
	r, ok := g.get(service, id)
	switch {
	case !ok:
		return api.Deregistered{}, discovery.Errorf(discovery.ErrNotFound, "%s/%s is not registered through this agent; 'disc unset' removes static entries", service, id)
	case r.source == api.FromConfig:
		return api.Deregistered{}, fromConfig(service, id)
	}
	g.remove(r)
	gone, err := g.awaitSettled(ctx, service, id)
	if err != nil {
		return api.Deregistered{}, nil // to be done when etcd answers
	}
	return api.Deregistered{Revision: gone.Revision, Written: true}, nil
}

// ReportLoad implements httpapi.Registrar.
func (g *registrar) ReportLoad(_ context.Context, service, id string, load discovery.LoadReport) error {
	err := g.registry.ReportLoad(service, id, *load.Utilization)
	if errors.Is(err, discovery.ErrNotFound) {
		return discovery.Errorf(discovery.ErrNotFound, "%s/%s is not registered through this agent; register it here first, or report to the agent that has it", service, id)
	}
	return err
}

// Report implements httpapi.Registrar.
func (g *registrar) Report(_ context.Context, service, id, checkID string, report api.CheckReport) error {
	r, ok := g.get(service, id)
	if !ok {
		return discovery.Errorf(discovery.ErrNotFound, "%s/%s is not registered through this agent", service, id)
	}
	return r.checks.Report(checkID, report.Status, report.Output)
}
