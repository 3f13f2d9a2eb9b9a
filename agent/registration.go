package agent

import (
	"context"
	"sync"
	"time"

	"disc/agent/api"
	"disc/agent/check"
	"disc/discovery"
)

// DeregisterAfter is how long an instance that was registered through the API may be
// critical before it is forgotten, unless its registration says otherwise.
const DeregisterAfter = time.Hour

// HoldGrace is how long a held instance outlives the connection that held it.
const HoldGrace = 10 * time.Second

// registration is one instance that this agent registers, with its checks.
type registration struct {
	spec   discovery.Registration // with its defaults
	source api.RegistrationSource
	checks *check.Set
	damper *check.Damper
	wake   chan struct{} // size one: a deadline may have changed

	mu       sync.Mutex
	critical time.Time // since when; zero: it is not
	released time.Time // since when nobody holds it; zero: somebody does, or it is not held
	holds    int       // counts the holds, so that a late release is told from the last
}

// newRegistration returns a registration whose checks carry on from those of before, the one
// that it replaces, if any. write gets what the checks have to say to etcd.
func newRegistration(s *check.Scheduler, spec discovery.Registration, source api.RegistrationSource, before *registration, write func(*registration, check.Report)) (*registration, error) {
	r := &registration{spec: spec, source: source, wake: make(chan struct{}, 1)}
	o := check.SetOptions{Restricted: source != api.FromConfig}
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

// instance is the instance as its checks see it. A status that is not known yet is
// left empty.
func (r *registration) instance(report check.Report) discovery.Instance {
	i := r.spec.Instance()
	if len(r.spec.Checks) > 0 {
		i.Status, i.Checks = report.Status, report.Checks
	}
	return i
}

// run runs the checks until ctx ends. When the instance's time is up, since nobody
// holds it or it has been critical for long, it asks forget, which says whether it is
// forgotten.
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

// deadline returns when the instance is to be forgotten, if nothing changes, and why.
func (r *registration) deadline() (time.Time, string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.released.IsZero() {
		return r.released.Add(HoldGrace), "the connection that held it is gone"
	}
	if r.source == api.FromAPI && !r.critical.IsZero() {
		after := DeregisterAfter
		if d := r.spec.DeregisterAfter; d != nil {
			after = time.Duration(*d)
		}
		return r.critical.Add(after), "it has been critical for " + after.String()
	}
	return time.Time{}, ""
}

// recordStatus keeps since when the instance is critical.
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

// hold binds the instance to a caller and returns what ends that.
func (r *registration) hold() (release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holds++
	r.released = time.Time{}
	mine := r.holds
	r.recheckDeadline()
	return func() { r.release(mine) }
}

// inherit takes over how often the instance that this one replaces was held.
func (r *registration) inherit(before *registration) {
	before.mu.Lock()
	defer before.mu.Unlock()
	r.holds, r.released = before.holds, before.released
}

func (r *registration) release(mine int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.holds == mine {
		r.released = time.Now()
		r.recheckDeadline()
	}
}

// recheckDeadline has run look at the deadlines again.
func (r *registration) recheckDeadline() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}
