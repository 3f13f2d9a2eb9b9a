package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"disc/agent/api"
	"disc/agent/check"
	"disc/discovery"
	"disc/discovery/registry"
)

// settleTime is how long a caller waits for its registration to be in etcd before it
// is told that this will come later.
const settleTime = 2 * time.Second

// identity is an instance among those of an agent: ids are compared as written, names
// of services without regard to case.
type identity struct{ service, id string }

func identify(service, id string) identity { return identity{discovery.FoldName(service), id} }

func (i identity) String() string { return i.service + "/" + i.id }

// registrar holds what this agent is to register, from the config file and from the
// API, runs the checks, and tells the registry. It is an httpapi.Registrar.
type registrar struct {
	registry  *registry.Registry
	scheduler *check.Scheduler
	dir       *dataDir
	address   string // advertised
	zone      string
	log       *slog.Logger
	wake      chan struct{} // size one: all has changed

	turn sync.Mutex // one change of what is registered at a time; held while etcd is awaited

	mu  sync.Mutex
	all map[identity]*registration
}

func newRegistrar(r *registry.Registry, s *check.Scheduler, dir *dataDir, address, zone string, log *slog.Logger) *registrar {
	return &registrar{
		registry: r, scheduler: s, dir: dir, address: address, zone: zone, log: log,
		wake: make(chan struct{}, 1), all: map[identity]*registration{},
	}
}

// Run runs the checks of all registrations until ctx ends.
func (g *registrar) Run(ctx context.Context) error {
	type task struct {
		cancel context.CancelFunc
		done   chan struct{}
	}
	running := map[*registration]task{}
	for ctx.Err() == nil {
		wanted := map[*registration]bool{}
		for _, r := range g.list() {
			wanted[r] = true
		}
		for r, t := range running {
			if !wanted[r] {
				t.cancel()
				<-t.done
				delete(running, r)
			}
		}
		for r := range wanted {
			if _, ok := running[r]; ok {
				continue
			}
			ctx, cancel := context.WithCancel(ctx)
			t := task{cancel, make(chan struct{})}
			running[r] = t
			go func() {
				defer close(t.done)
				r.run(ctx, func(why string) bool { return g.forget(r, why) })
			}()
		}
		select {
		case <-g.wake:
		case <-ctx.Done():
		}
	}
	for _, t := range running {
		t.cancel()
		<-t.done
	}
	return nil
}

// list returns all registrations, sorted by service and id.
func (g *registrar) list() []*registration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.SortedFunc(maps.Values(g.all), func(a, b *registration) int {
		return cmp.Or(strings.Compare(discovery.FoldName(a.spec.Service), discovery.FoldName(b.spec.Service)), strings.Compare(a.spec.ID, b.spec.ID))
	})
}

func (g *registrar) get(service, id string) (*registration, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r, ok := g.all[identify(service, id)]
	return r, ok
}

// Owns reports whether an instance is registered through this agent.
func (g *registrar) Owns(service, id string) bool {
	_, ok := g.get(service, id)
	return ok
}

// put makes spec the registration of its instance and tells the registry.
// It returns the registration that it replaces, if any.
func (g *registrar) put(spec discovery.Registration, source api.RegistrationSource) (before *registration, err error) {
	spec = spec.WithDefaults(g.address, g.zone)
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	before, _ = g.get(spec.Service, spec.ID)
	now, err := register(g.scheduler, spec, source, before, g.write)
	if err != nil {
		return nil, err
	}
	if before != nil {
		now.inherit(before)
	}
	g.install(identify(spec.Service, spec.ID), now)
	return before, nil
}

// install makes a registration the one of its instance, and tells the registry; nil
// removes what is there.
func (g *registrar) install(i identity, r *registration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r == nil {
		delete(g.all, i)
		g.registry.Remove(i.service, i.id)
	} else {
		g.all[i] = r
		g.registry.Put(r.instance(r.checks.Current()))
	}
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// write passes on what the checks of a registration say, unless another has taken its
// place.
func (g *registrar) write(r *registration, report check.Report) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all[identify(r.spec.Service, r.spec.ID)] == r {
		g.registry.Put(r.instance(report))
	}
}

// Register implements httpapi.Registrar.
func (g *registrar) Register(ctx context.Context, spec discovery.Registration) (api.Registered, error) {
	g.turn.Lock()
	defer g.turn.Unlock()
	done, err := g.enter(ctx, spec, api.FromAPI)
	if err == nil {
		g.keep()
	}
	return done, err
}

// Hold implements httpapi.Registrar.
func (g *registrar) Hold(ctx context.Context, spec discovery.Registration) (api.Registered, func(), error) {
	g.turn.Lock()
	defer g.turn.Unlock()
	if r, ok := g.get(spec.Service, spec.ID); ok && r.held() {
		return api.Registered{}, nil, discovery.Errorf(discovery.ErrConflict, "%s/%s is held by another open request to this agent; choose another id or end that one", spec.Service, spec.ID)
	}
	done, err := g.enter(ctx, spec, api.FromHold)
	if err != nil {
		return api.Registered{}, nil, err
	}
	r, _ := g.get(spec.Service, spec.ID)
	return done, r.hold(), nil
}

// enter registers an instance that a caller has given, and waits until it is in etcd.
// A conflict leaves everything as it was.
func (g *registrar) enter(ctx context.Context, spec discovery.Registration, source api.RegistrationSource) (api.Registered, error) {
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
	state, err := g.settle(ctx, spec.Service, spec.ID)
	if state.Phase == registry.InConflict {
		g.install(identify(spec.Service, spec.ID), before)
		return api.Registered{}, state.Err
	}
	if err != nil && ctx.Err() != nil { // the caller is gone and will not know
		g.install(identify(spec.Service, spec.ID), before)
		return api.Registered{}, err
	}
	done := api.Registered{
		Entry:   discovery.Entry{Instance: state.Instance, State: discovery.Up, Source: discovery.SourceAgent},
		Created: before == nil,
		Written: state.Phase == registry.Written,
		Warning: nameWarning(spec.Service),
	}
	if done.Written {
		done.Entry.Revision = state.Revision
	}
	return done, nil
}

// settle waits until an instance is in etcd, or etcd turns out to be away.
func (g *registrar) settle(ctx context.Context, service, id string) (registry.State, error) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	return g.registry.Settled(ctx, service, id)
}

func fromConfig(service, id string) error {
	return discovery.Errorf(discovery.ErrForbidden, "%s/%s comes from the config file; change it there and reload the agent", service, id)
}

// nameWarning says what a service with a dot in its name has to do without.
func nameWarning(service string) string {
	if !strings.Contains(service, ".") {
		return ""
	}
	return fmt.Sprintf("service %q has a dot in its name: DNS cannot reach it, /v1/services and the CLI can", service)
}

// Deregister implements httpapi.Registrar.
func (g *registrar) Deregister(ctx context.Context, service, id string) (api.Deregistered, error) {
	g.turn.Lock()
	defer g.turn.Unlock()
	r, ok := g.get(service, id)
	switch {
	case !ok:
		return api.Deregistered{}, discovery.Errorf(discovery.ErrNotFound, "%s/%s is not registered through this agent; 'disc unset' removes static entries", service, id)
	case r.source == api.FromConfig:
		return api.Deregistered{}, fromConfig(service, id)
	}
	g.drop(r)
	gone, err := g.settle(ctx, service, id)
	if err != nil {
		return api.Deregistered{}, nil // to be done when etcd answers
	}
	return api.Deregistered{Revision: gone.Revision, Written: true}, nil
}

// drop ends a registration and forgets it.
func (g *registrar) drop(r *registration) {
	g.install(identify(r.spec.Service, r.spec.ID), nil)
	if r.source == api.FromAPI {
		g.keep()
	}
}

// forget drops a registration whose time is up, and reports whether it is dropped: it
// may have been held again, or be no longer critical, while this waited for its turn.
func (g *registrar) forget(r *registration, why string) bool {
	g.turn.Lock()
	defer g.turn.Unlock()
	if now, ok := g.get(r.spec.Service, r.spec.ID); !ok || now != r {
		return true
	}
	if deadline, _ := r.deadline(); deadline.IsZero() || time.Now().Before(deadline) {
		return false
	}
	g.log.Warn("instance is deregistered", "service", r.spec.Service, "instance", r.spec.ID, "reason", why)
	g.drop(r)
	return true
}

// Report implements httpapi.Registrar.
func (g *registrar) Report(_ context.Context, service, id, checkID string, report api.CheckReport) error {
	r, ok := g.get(service, id)
	if !ok {
		return discovery.Errorf(discovery.ErrNotFound, "%s/%s is not registered through this agent", service, id)
	}
	return r.checks.Report(checkID, report.Status, report.Output)
}

// keep writes what the API has registered to the data directory.
func (g *registrar) keep() {
	kept := []discovery.Registration{}
	for _, r := range g.list() {
		if r.source == api.FromAPI {
			kept = append(kept, r.spec)
		}
	}
	g.dir.keep(kept)
}

// load registers what the config file says and what the API registered in earlier
// runs.
func (g *registrar) load(configured []discovery.Registration) {
	g.reload(configured)
	for _, spec := range g.dir.registrations() {
		if g.Owns(spec.Service, spec.ID) {
			g.log.Warn("instance is in the config file too; what the API registered is dropped", "service", spec.Service, "instance", spec.ID)
			continue
		}
		if _, err := g.put(spec, api.FromAPI); err != nil {
			g.log.Error("kept registration is no longer valid; it is left out", "service", spec.Service, "instance", spec.ID, "error", err)
		}
	}
}

// reload makes the registrations of the config file those that are given. Checks that
// stay the same carry on.
func (g *registrar) reload(configured []discovery.Registration) {
	g.turn.Lock()
	defer g.turn.Unlock()
	wanted := map[identity]bool{}
	for _, spec := range configured {
		wanted[identify(spec.Service, spec.ID)] = true
		if _, err := g.put(spec, api.FromConfig); err != nil {
			g.log.Error("instance of the config file cannot be registered", "service", spec.Service, "instance", spec.ID, "error", err)
		}
	}
	for _, r := range g.list() {
		if r.source == api.FromConfig && !wanted[identify(r.spec.Service, r.spec.ID)] {
			g.drop(r)
		}
	}
}

// pending returns why not all wanted records are in etcd; nil when they are.
func (g *registrar) pending() error {
	var errs []error
	for _, r := range g.list() {
		state, err := g.registry.State(r.spec.Service, r.spec.ID)
		if err == nil && state.Phase != registry.Written {
			err = cmp.Or(state.Err, errors.New("not written to etcd yet"))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s/%s: %w", r.spec.Service, r.spec.ID, err))
		}
	}
	return errors.Join(errs...)
}
