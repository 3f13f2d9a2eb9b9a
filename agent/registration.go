package agent

import (
	"context"
	"sync"
	"time"

	"disc/agent/api"
	"disc/agent/check"
	"disc/agent/httpapi"
	"disc/discovery"
	"disc/discovery/retry"
)

// HoldGrace is how long a held instance stays registered after its connection is lost.
const HoldGrace = 10 * time.Second

// registration is one instance that this agent registers, with its checks.
type registration struct {
	spec   discovery.Registration // with its defaults
	source api.RegistrationSource
	checks *check.Set
	damper *check.Damper
	wake   retry.Signal // the deadline may have changed

	mu       sync.Mutex
	critical time.Time     // since when it is; zero: it is not
	released time.Time     // when the last holder released it; zero: it is held, or was never
	holds    int           // number of holds so far: tells the release of an earlier hold from the last
	lost     chan struct{} // closed when another caller ends the last hold; nil: there was none
}

// origin is where a registration comes from.
type origin struct {
	source api.RegistrationSource
	stored bool // read from the data directory: an earlier version may have accepted it
}

// newRegistration returns a registration. Its checks continue those of before, the registration
// that it replaces, if any. write gets the reports of the checks to write to etcd.
func newRegistration(s *check.Scheduler, spec discovery.Registration, from origin, before *registration, write func(*registration, check.Report)) (*registration, error) {
	r := &registration{spec: spec, source: from.source, wake: retry.NewSignal()}
	o := check.SetOptions{Restricted: from.source != api.FromConfig, KeepRefused: from.stored}
	if before != nil {
		o.Previous = before.checks
	}
	r.damper = check.NewDamper(func(report check.Report) { write(r, report) })
	o.Changed = func(report check.Report) {
		r.recordStatus(report.Status)
		r.damper.Offer(report)
	}
	var err error
	r.checks, err = s.NewSet(spec, o)
	return r, err
}

// instance returns the instance with the result of its checks. The status is empty until they
// have one.
func (r *registration) instance(report check.Report) discovery.Instance {
	i := r.spec.Instance()
	if len(r.spec.Checks) > 0 {
		i.Status, i.Checks = report.Status, report.Checks
	}
	return i
}

// run runs the checks until ctx ends. At the deadline, when nobody has held the instance or it
// has been critical for too long, it calls forget, which reports whether the instance is
// deregistered: then run returns.
func (r *registration) run(ctx context.Context, forget func(why string) bool) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { r.checks.Run(ctx) })
	running.Go(func() { r.damper.Run(ctx) })
	for {
		var due <-chan time.Time
		deadline, why := r.deadline()
		if !deadline.IsZero() {
			due = time.After(time.Until(deadline))
		}
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-due:
			if forget(why) {
				return
			}
		}
	}
}

// deadline returns when the instance is to be deregistered if nothing changes, and why; the
// zero time: never. An instance with a check that is refused for good since an upgrade says
// nothing about its health, so it stays until someone registers it anew. While a check is refused
// for the addresses that this host has now, the time does not run.
func (r *registration) deadline() (time.Time, string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.released.IsZero() {
		return r.released.Add(HoldGrace), "the connection that held it is lost"
	}
	if r.source == api.FromAPI && r.spec.DeregisterAfter != nil && !r.critical.IsZero() && len(r.checks.Refused()) == 0 {
		after, since := time.Duration(*r.spec.DeregisterAfter), r.critical
		if refused := r.checks.RefusedUntil(); refused.After(since) {
			since = refused
		}
		return since.Add(after), "it has been critical for " + after.String()
	}
	return time.Time{}, ""
}

// recordStatus records since when the instance is critical.
func (r *registration) recordStatus(s discovery.Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case s != discovery.Critical:
		r.critical = time.Time{}
	case r.critical.IsZero():
		r.critical = time.Now()
	}
	r.recheckDeadline()
}

// held reports whether a caller holds the instance.
func (r *registration) held() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.holds > 0 && r.released.IsZero()
}

// hold binds the instance to a caller, who calls Release.
func (r *registration) hold() httpapi.Hold {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holds++
	r.released = time.Time{}
	r.lost = make(chan struct{})
	hold := r.holds
	r.recheckDeadline()
	return httpapi.Hold{Lost: r.lost, Release: func() { r.release(hold) }}
}

// endHold tells the holder, if any, that this registration has been removed or replaced.
func (r *registration) endHold() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lost != nil {
		close(r.lost)
		r.lost = nil
	}
}

// inherit takes over the holds of the registration that this one replaces.
func (r *registration) inherit(before *registration) {
	before.mu.Lock()
	defer before.mu.Unlock()
	r.holds, r.released = before.holds, before.released
}

// release ends a hold, unless a later one has replaced it.
func (r *registration) release(hold int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.holds == hold {
		r.released = time.Now()
		r.recheckDeadline()
	}
}

// recheckDeadline makes run compute the deadline again.
func (r *registration) recheckDeadline() {
	r.wake.Notify()
}
