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
	before, err := g.accept(spec, api.FromAPI)
	if err != nil {
		return api.Registered{}, err
	}
	// The disk works while etcd does, unless a conflict is likely: an agent that is killed before the change is
	// taken back registers it at its next start. The defaults are not saved: they are filled in at each start,
	// and the host may have another address then.
	early, saved := !g.registry.MayConflict(spec.Service, spec.ID), savedChange{}
	if early {
		saved = g.saved.put(keyOf(spec.Service, spec.ID), spec)
	}
	done, err := g.awaitRegistered(ctx, spec, before)
	if err != nil {
		if early {
			err = takeBack(ctx, saved, err)
		}
		return api.Registered{}, err
	}
	if !early {
		saved = g.saved.put(keyOf(spec.Service, spec.ID), spec)
	}
	if err := saved.wait(ctx); err != nil {
		warning := fmt.Sprintf("it is not saved, and is gone after a restart of the agent unless the agent can save it before: %v", err)
		done.Warning = strings.TrimPrefix(done.Warning+"; "+warning, "; ")
	}
	return done, nil
}

// takeBack takes back what was saved of a registration that has failed for a reason, which it returns.
func takeBack(ctx context.Context, saved savedChange, reason error) error {
	if undone := saved.undo().wait(context.WithoutCancel(ctx)); undone != nil && saved.err == nil {
		return fmt.Errorf("%w; what was saved of it is not taken back yet, and is registered after a restart of the agent unless the agent can do that before: %w", reason, undone)
	}
	return reason
}

// Hold implements httpapi.Registrar.
func (g *registrar) Hold(ctx context.Context, spec discovery.Registration, by httpapi.Holder) (api.Registered, httpapi.Hold, error) {
	unlock, err := g.locks.Lock(ctx, keyOf(spec.Service, spec.ID))
	if err != nil {
		return api.Registered{}, httpapi.Hold{}, err
	}
	defer unlock()
	if r, ok := g.get(spec.Service, spec.ID); ok {
		if holder, since, held := r.held(); held {
			return api.Registered{}, httpapi.Hold{}, discovery.Errorf(discovery.ErrConflict, "%s; choose another id or end that one", isHeld(spec.Service, spec.ID, holder, since))
		}
	}
	if err := g.forcedOut(spec, by); err != nil {
		return api.Registered{}, httpapi.Hold{}, err
	}
	before, err := g.accept(spec, api.FromHold)
	if err != nil {
		return api.Registered{}, httpapi.Hold{}, err
	}
	done, err := g.awaitRegistered(ctx, spec, before)
	if err != nil {
		return api.Registered{}, httpapi.Hold{}, err
	}
	r, _ := g.get(spec.Service, spec.ID)
	return done, r.hold(by), nil
}

// isHeld says who holds an instance.
func isHeld(service, id string, holder httpapi.Holder, since time.Time) string {
	return fmt.Sprintf("%s/%s is held by another open request to this agent, of %v, since %s", service, id, holder, since.UTC().Format(time.RFC3339))
}

// accept begins to register an instance for a caller. It returns the registration that it replaces, if any.
func (g *registrar) accept(spec discovery.Registration, source api.RegistrationSource) (before *registration, err error) {
	if g.stopping() {
		return nil, errStopping
	}
	if r, ok := g.get(spec.Service, spec.ID); ok && r.source != source {
		if r.source == api.FromConfig {
			return nil, fromConfig(spec.Service, spec.ID)
		}
		return nil, discovery.Errorf(discovery.ErrConflict, "%s/%s is registered on this agent already, as %s; deregister it first", spec.Service, spec.ID, r.source)
	}
	return g.put(spec, origin{source: source})
}

// awaitRegistered waits until an accepted instance is in etcd or g.settle is over. On an error, such as
// a conflict, it puts back the registration before.
func (g *registrar) awaitRegistered(ctx context.Context, spec discovery.Registration, before *registration) (api.Registered, error) {
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
func (g *registrar) Deregister(ctx context.Context, service, id string, by httpapi.Holder, force bool) (api.Deregistered, error) {
	unlock, err := g.locks.Lock(ctx, keyOf(service, id))
	if err != nil {
		return api.Deregistered{}, err
	}
	defer unlock()
	r, ok := g.get(service, id)
	switch {
	case !ok && g.saved.has(keyOf(service, id)): // it was of no use to this version
		return api.Deregistered{Written: true, Warning: notRemoved(g.saved.remove(keyOf(service, id)).wait(ctx))}, nil
	case !ok:
		return api.Deregistered{}, discovery.Errorf(discovery.ErrNotFound, "%s/%s is not registered through this agent; 'disc unset' removes static entries", service, id)
	case r.source == api.FromConfig:
		return api.Deregistered{}, fromConfig(service, id)
	}
	if err := g.endHold(r, by, force); err != nil {
		return api.Deregistered{}, err
	}
	removed := g.remove(r) // the disk works while etcd does
	left, err := g.awaitSettled(ctx, service, id)
	warning := notRemoved(removed.wait(ctx))
	if err != nil {
		return api.Deregistered{Warning: warning}, nil // the registry deregisters it when etcd answers
	}
	return api.Deregistered{Revision: left.Revision, Written: true, Warning: warning}, nil
}

// endHold ends the hold of an instance that a caller deregisters. ErrConflict: another caller holds it,
// and nothing is forced. Force counts also against a holder whose connection was just lost, since it
// may come back.
func (g *registrar) endHold(r *registration, by httpapi.Holder, force bool) error {
	service, id := r.spec.Service, r.spec.ID
	switch holder, since, held := r.held(); {
	case r.source != api.FromHold || !held && !force:
		return nil
	case holder.Owns(by) && !(force && holder.Unnamed): // of an unnamed one it may be another
		if held && holder.Unnamed {
			g.log.Info("a held instance is deregistered by a caller without a name, of the host of its holder: the holder itself, or another Go program there",
				"service", service, "instance", id, "holder", holder.String(), "by", by.String())
		}
		return nil
	case !force:
		return discovery.Errorf(discovery.ErrConflict, "%s; end that one, or deregister it by force: ?force, or 'disc unset %s/%s --registration --force'", isHeld(service, id, holder, since), service, id)
	default:
		g.log.Warn("a held instance is deregistered by force", "service", service, "instance", id, "holder", holder.String(), "by", by.String())
		g.rememberForced(r.spec, holder, by)
		r.endHold(by.String())
		return nil
	}
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
