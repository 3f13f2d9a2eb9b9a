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
	critical time.Time // since when it is; zero: it is not
	released time.Time // when the last holder released it; zero: it is held, or was never
	holds    int       // number of holds so far: tells the release of an earlier hold from the last
	holder   httpapi.Holder
	since    time.Time // when the last hold began
	lost     *lostHold // of the last hold; nil: there was none, or it was lost
}

// lostHold tells a holder that its registration was removed or replaced.
type lostHold struct {
	done     chan struct{}
	forcedBy string // valid once done is closed
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
	i.DeregisterAfter = discovery.Duration(r.deregisterAfter())
	return i
}

// inert reports whether nothing ever changes by itself: no check has results, and nobody holds the
// instance. There is nothing to run then.
func (r *registration) inert() bool { return len(r.spec.Checks) == 0 && r.source != api.FromHold }

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
	if after := r.deregisterAfter(); after > 0 && !r.critical.IsZero() && len(r.checks.Refused()) == 0 {
		since := r.critical
		if refused := r.checks.RefusedUntil(); refused.After(since) {
			since = refused
		}
		return since.Add(after), "it has been critical for " + after.String()
	}
	return time.Time{}, ""
}

// deregisterAfter returns how long the instance may be critical until it is deregistered; 0: for ever.
func (r *registration) deregisterAfter() time.Duration {
	if r.source != api.FromAPI || r.spec.DeregisterAfter == nil {
		return 0
	}
	return time.Duration(*r.spec.DeregisterAfter)
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

// held returns the caller that holds the instance, and since when; false if nobody does.
func (r *registration) held() (by httpapi.Holder, since time.Time, held bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.holder, r.since, r.holds > 0 && r.released.IsZero()
}

// hold binds the instance to a caller, who calls Release.
func (r *registration) hold(by httpapi.Holder) httpapi.Hold {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holds++
	r.holder, r.since, r.released = by, time.Now(), time.Time{}
	lost := &lostHold{done: make(chan struct{})}
	r.lost = lost
	hold := r.holds
	r.recheckDeadline()
	return httpapi.Hold{Lost: lost.done, ForcedBy: lost.by, Release: func() { r.release(hold) }}
}

// by returns who removed the registration by force; "" if it is not lost, or was not forced.
func (l *lostHold) by() string {
	select {
	case <-l.done:
		return l.forcedBy
	default:
		return ""
	}
}

// endHold tells the holder, if any, that this registration has been removed or replaced, and by
// whom if that was forced.
func (r *registration) endHold(forcedBy string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lost != nil {
		r.lost.forcedBy = forcedBy
		close(r.lost.done)
		r.lost = nil
	}
}

// inherit takes over the holds of the registration that this one replaces.
func (r *registration) inherit(before *registration) {
	before.mu.Lock()
	defer before.mu.Unlock()
	r.holds, r.holder, r.since, r.released = before.holds, before.holder, before.since, before.released
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
