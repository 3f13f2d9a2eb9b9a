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
	"disc/discovery/etcd"
	"disc/discovery/heartbeat"
	"disc/discovery/registry"
	"disc/discovery/retry"
)

// instanceKey identifies an instance of this agent. Ids are compared as written, names of
// services without regard to case.
type instanceKey struct{ service, id string }

func keyOf(service, id string) instanceKey { return instanceKey{discovery.FoldName(service), id} }

func (i instanceKey) String() string { return i.service + "/" + i.id }

// registrar has the registrations of this agent, from the config file and from the API. It
// runs their checks and puts their instances into the registry. It is an
// httpapi.Registrar.
type registrar struct {
	registry  *registry.Registry
	scheduler *check.Scheduler
	saved     *registrationStore
	address   string // advertised
	zone      string
	endpoints []string // of etcd
	log       *slog.Logger
	wake      retry.Signal // registrations has changed
	heartbeat heartbeat.Heartbeat
	locks     keyedMutex    // serializes the changes of an instance; locked while etcd is awaited
	settle    time.Duration // how long a caller waits for its registration to be in etcd

	mu            sync.Mutex
	registrations map[instanceKey]*registration
	changed       map[instanceKey]bool // registrations that Run has not looked at since they changed
	closed        bool                 // the agent stops: nothing new goes to the registry
	forced        []forcedEnd          // the ends of holds by force, of the last minute
}

func newRegistrar(r *registry.Registry, s *check.Scheduler, dir *dataDir, address, zone string, endpoints []string, log *slog.Logger) *registrar {
	return &registrar{
		registry: r, scheduler: s, saved: newRegistrationStore(dir, log), address: address, zone: zone, endpoints: endpoints, log: log,
		wake: retry.NewSignal(), settle: settleTimeout, registrations: map[instanceKey]*registration{}, changed: map[instanceKey]bool{},
	}
}

// Run runs the checks of all registrations until ctx ends.
func (g *registrar) Run(ctx context.Context) error {
	running := map[instanceKey]func(){} // ends the checks of an instance, and waits for their end
	g.changeAll()
	for ctx.Err() == nil {
		g.heartbeat.Begin()
		for i, r := range g.takeChanges() {
			if stop, ok := running[i]; ok {
				stop()
				delete(running, i)
			}
			if r != nil && !r.inert() {
				running[i] = g.runChecks(ctx, r)
			}
		}
		g.heartbeat.End()
		select {
		case <-g.wake:
		case <-ctx.Done():
		}
	}
	for _, stop := range running {
		stop()
	}
	return nil
}

// runChecks runs the checks of a registration until stop is called, which waits for their end.
func (g *registrar) runChecks(ctx context.Context, r *registration) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.run(ctx, func(reason string) bool { return g.removeExpired(ctx, r, reason) })
	}()
	return func() {
		cancel()
		<-done
	}
}

// changeAll has takeChanges return all registrations.
func (g *registrar) changeAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.registrations {
		g.changed[i] = true
	}
}

// takeChanges returns the registrations that were put or removed (nil) since the last call.
func (g *registrar) takeChanges() map[instanceKey]*registration {
	g.mu.Lock()
	defer g.mu.Unlock()
	changes := make(map[instanceKey]*registration, len(g.changed))
	for i := range g.changed {
		changes[i] = g.registrations[i]
	}
	clear(g.changed)
	return changes
}

// list returns all registrations, sorted by service and id.
func (g *registrar) list() []*registration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.SortedFunc(maps.Values(g.registrations), func(a, b *registration) int {
		return cmp.Or(strings.Compare(discovery.FoldName(a.spec.Service), discovery.FoldName(b.spec.Service)), strings.Compare(a.spec.ID, b.spec.ID))
	})
}

// get returns the registration of an instance.
func (g *registrar) get(service, id string) (*registration, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r, ok := g.registrations[keyOf(service, id)]
	return r, ok
}

// Owns reports whether an instance is registered through this agent.
func (g *registrar) Owns(service, id string) bool {
	_, ok := g.get(service, id)
	return ok
}

// put makes spec the registration of its instance and puts the instance into the registry.
// It returns the registration that it replaces, if any.
func (g *registrar) put(spec discovery.Registration, from origin) (before *registration, err error) {
	spec = spec.WithDefaults(g.address, g.zone)
	validate := spec.Validate
	if from.stored {
		validate = spec.ValidateStored
	}
	if err := validate(); err != nil {
		return nil, err
	}
	before, _ = g.get(spec.Service, spec.ID)
	now, err := newRegistration(g.scheduler, spec, from, before, g.publishReport)
	if err != nil {
		return nil, err
	}
	for _, reason := range now.checks.Refused() {
		g.log.Error("check of a saved registration is refused; the instance is critical until it is registered anew or put into the config file",
			"service", spec.Service, "instance", spec.ID, "reason", reason)
	}
	if after := now.deregisterAfter(); after > 0 && (before == nil || before.deregisterAfter() != after) {
		g.log.Info("instance is to be deregistered, and forgotten, once it has been critical for long (deregister_after)",
			"service", spec.Service, "instance", spec.ID, "deregister_after", after.String())
	}
	if before != nil && from.source == api.FromHold {
		now.inherit(before)
	}
	g.replace(keyOf(spec.Service, spec.ID), now)
	return before, nil
}

// replace sets the registration of an instance, in the registry too; nil removes it. A
// holder of the previous one is told.
func (g *registrar) replace(i instanceKey, r *registration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if before, ok := g.registrations[i]; ok {
		before.endHold("")
	}
	if r == nil {
		delete(g.registrations, i)
		g.registry.Remove(i.service, i.id)
	} else {
		g.registrations[i] = r
		g.publish(r, r.checks.Current(), g.registry.Put)
	}
	g.changed[i] = true
	g.wake.Notify()
}

// publishReport puts the results of a registration's checks into the registry, unless the
// registration was replaced meanwhile.
func (g *registrar) publishReport(r *registration, report check.Report) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.registrations[keyOf(r.spec.Service, r.spec.ID)] == r {
		g.publish(r, report, g.registry.PutStatus)
	}
}

// publish puts an instance into the registry by one of its methods, unless the agent stops: an instance that is
// put after its tombstone would be back in etcd. g.mu is held.
func (g *registrar) publish(r *registration, report check.Report, put func(discovery.Instance)) {
	if !g.closed {
		put(r.instance(report))
	}
}

// close keeps new registrations and results of checks out of the registry from now on,
// before the agent deregisters its instances.
func (g *registrar) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

// stopping reports whether the agent stops.
func (g *registrar) stopping() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

// remove removes a registration, and begins to remove it from the data directory.
func (g *registrar) remove(r *registration) savedChange {
	g.replace(keyOf(r.spec.Service, r.spec.ID), nil)
	if r.source == api.FromAPI {
		return g.saved.remove(keyOf(r.spec.Service, r.spec.ID))
	}
	return savedChange{}
}

// removeExpired removes a registration whose deadline is over, and reports whether it is
// removed. The deadline may have changed while this waited for the lock: the instance may
// be held again, or not be critical any more.
func (g *registrar) removeExpired(ctx context.Context, r *registration, reason string) bool {
	unlock, err := g.locks.Lock(ctx, keyOf(r.spec.Service, r.spec.ID))
	if err != nil {
		return false
	}
	defer unlock()
	if now, ok := g.get(r.spec.Service, r.spec.ID); !ok || now != r {
		return true
	}
	if deadline, _ := r.deadline(); deadline.IsZero() || time.Now().Before(deadline) {
		return false
	}
	g.log.Warn("instance is deregistered, and stays so until it is registered anew", "service", r.spec.Service, "instance", r.spec.ID, "reason", reason)
	_ = g.remove(r).wait(ctx) // the store logs an error, and retries
	return true
}

// explain turns an error of etcd into one that an operator can act on.
func (g *registrar) explain(err error) error { return etcd.Explain(g.endpoints, err) }

// pending returns the reasons for which instances are not in etcd, or would not be after a restart;
// nil: all are.
func (g *registrar) pending() error {
	errs := []error{g.saved.lostErr()}
	unregistered := g.saved.unregistered()
	for _, text := range unregistered[:min(len(unregistered), maxNamed)] {
		errs = append(errs, fmt.Errorf("saved registration %s", text))
	}
	if more := len(unregistered) - maxNamed; more > 0 {
		errs = append(errs, fmt.Errorf("%d more saved registrations are not registered; 'disc status' names them", more))
	}
	for _, r := range g.list() {
		state, err := g.registry.State(r.spec.Service, r.spec.ID)
		if err == nil && state.Phase != registry.PhaseWritten {
			err = cmp.Or(g.explain(state.Err), errors.New("not written to etcd yet"))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s/%s: %w", r.spec.Service, r.spec.ID, err))
		}
	}
	return errors.Join(errs...)
}
