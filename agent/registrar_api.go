package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"disc/agent/api"
	"disc/agent/httpapi"
	"disc/discovery"
	"disc/discovery/registry"
	"disc/discovery/view"
)

// settleTimeout is how long a caller waits for its registration to be in etcd by default.
// After that the answer is a warning that it is not there yet.
const settleTimeout = 2 * time.Second

var errStopping = discovery.Errorf(discovery.ErrUnavailable, "this agent is stopping and registers nothing new; ask again when it is back")

// Register implements httpapi.Registrar.
func (g *registrar) Register(ctx context.Context, spec discovery.Registration) (api.Registered, error) {
	unlock, err := g.locks.Lock(ctx, keyOf(spec.Service, spec.ID))
	if err != nil {
		return api.Registered{}, err
	}
	defer unlock()
	done, err := g.registerAndWait(ctx, spec, api.FromAPI)
	if err != nil {
		return done, err
	}
	if g.Owns(spec.Service, spec.ID) {
		// Its defaults are filled in at each start: the host may have another address then.
		if err := g.saved.put(ctx, keyOf(spec.Service, spec.ID), spec); err != nil {
			warning := fmt.Sprintf("it is not saved, and is gone after a restart of the agent unless the agent can save it before: %v", err)
			done.Warning = strings.TrimPrefix(done.Warning+"; "+warning, "; ")
		}
	}
	return done, nil
}

// Hold implements httpapi.Registrar.
func (g *registrar) Hold(ctx context.Context, spec discovery.Registration) (api.Registered, httpapi.Hold, error) {
	unlock, err := g.locks.Lock(ctx, keyOf(spec.Service, spec.ID))
	if err != nil {
		return api.Registered{}, httpapi.Hold{}, err
	}
	defer unlock()
	if r, ok := g.get(spec.Service, spec.ID); ok && r.held() {
		return api.Registered{}, httpapi.Hold{}, discovery.Errorf(discovery.ErrConflict, "%s/%s is held by another open request to this agent; choose another id or end that one", spec.Service, spec.ID)
	}
	done, err := g.registerAndWait(ctx, spec, api.FromHold)
	if err != nil {
		return api.Registered{}, httpapi.Hold{}, err
	}
	r, _ := g.get(spec.Service, spec.ID)
	return done, r.hold(), nil
}

// registerAndWait registers an instance for a caller, and waits until it is in etcd or
// g.settle is over. On an error, such as a conflict, everything is as it was before.
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
	before, err := g.put(spec, origin{source: source})
	if err != nil {
		return api.Registered{}, err
	}
	state, err := g.awaitSettled(ctx, spec.Service, spec.ID)
	switch {
	case state.Phase == registry.PhaseConflict:
		err = state.Err
	case err != nil && ctx.Err() != nil: // the caller is gone and would not know
	case g.stopping(): // the instance was deregistered meanwhile
		err = errStopping
	default:
		err = nil // the registry will write it
	}
	if err != nil {
		g.replace(keyOf(spec.Service, spec.ID), before)
		return api.Registered{}, err
	}
	state.Instance.Status = cmp.Or(state.Instance.Status, discovery.Critical) // until the checks have a result
	done := api.Registered{
		Entry:   view.Entry{Instance: state.Instance, State: discovery.Up, Source: view.SourceAgent},
		Created: before == nil,
		Written: state.Phase == registry.PhaseWritten,
	}
	if done.Written {
		done.Entry.Revision = state.Revision
	} else {
		cause := cmp.Or(g.explain(state.Err), fmt.Errorf("etcd has not taken it within %v", g.settle))
		done.Warning = fmt.Sprintf("remembered, and not in etcd yet: %v", cause)
	}
	return done, nil
}

// awaitSettled waits until an instance is settled in the registry, or g.settle is over.
func (g *registrar) awaitSettled(ctx context.Context, service, id string) (registry.State, error) {
	ctx, cancel := context.WithTimeout(ctx, g.settle)
	defer cancel()
	return g.registry.AwaitSettled(ctx, service, id)
}

func fromConfig(service, id string) error {
	return discovery.Errorf(discovery.ErrForbidden, "%s/%s comes from the config file; change it there and reload the agent", service, id)
}

// Deregister implements httpapi.Registrar.
func (g *registrar) Deregister(ctx context.Context, service, id string) (api.Deregistered, error) {
	unlock, err := g.locks.Lock(ctx, keyOf(service, id))
	if err != nil {
		return api.Deregistered{}, err
	}
	defer unlock()
	r, ok := g.get(service, id)
	switch {
	case !ok && g.saved.has(keyOf(service, id)): // it was of no use to this version
		return api.Deregistered{Written: true, Warning: notRemoved(g.saved.remove(ctx, keyOf(service, id)))}, nil
	case !ok:
		return api.Deregistered{}, discovery.Errorf(discovery.ErrNotFound, "%s/%s is not registered through this agent; 'disc unset' removes static entries", service, id)
	case r.source == api.FromConfig:
		return api.Deregistered{}, fromConfig(service, id)
	}
	warning := notRemoved(g.remove(ctx, r))
	left, err := g.awaitSettled(ctx, service, id)
	if err != nil {
		return api.Deregistered{Warning: warning}, nil // the registry deregisters it when etcd answers
	}
	return api.Deregistered{Revision: left.Revision, Written: true, Warning: warning}, nil
}

// notRemoved returns the warning about an instance that could not be removed from the data
// directory; "" if there is no error.
func notRemoved(err error) string {
	if err == nil {
		return ""
	}
	return fmt.Sprintf("its registration is still saved, and it is back after a restart of the agent unless the agent can remove it before: %v", err)
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
