package check

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"sync"
	"time"

	"disc/discovery"
	"disc/discovery/retry"
)

// SetOptions are the options of a set. The zero value is useful.
type SetOptions struct {
	// Changed gets each report that differs from the one before. Run calls it, one call
	// at a time. Reports that come faster than it returns are coalesced.
	Changed func(Report)
	// Previous is the set that this one replaces. Its Run should have returned. Checks that
	// are the same in both keep their status, counters, output and schedule.
	Previous *Set
	// Restricted limits the checks to what the HTTP API may give: none of type exec, only
	// requests that ask, and no connection except to this host and to [Options.Networks].
	Restricted bool
	// KeepRefused keeps a check that the restriction refuses: it is critical, with the reason
	// as its output. What may change, such as the addresses of this host, is judged only when
	// the check connects. Without it, NewSet fails.
	KeepRefused bool
}

// Set runs the checks of one instance.
type Set struct {
	scheduler *Scheduler
	changed   func(Report)
	logger    *slog.Logger
	checks    []*check // never changes
	refused   []error  // of the checks that the restriction refuses for good; never changes
	wake      retry.Signal

	mu           sync.Mutex // guards the state of each check, and the rest
	refusedUntil time.Time
}

// NewSet returns the set of a registration whose defaults are filled in. The error is a
// [discovery.ErrInvalid] for a check that cannot run, and a [discovery.ErrForbidden] for one
// that the restriction excludes.
func (s *Scheduler) NewSet(r discovery.Registration, o SetOptions) (*Set, error) {
	if o.Changed == nil {
		o.Changed = func(Report) {}
	}
	set := &Set{
		scheduler: s,
		changed:   o.Changed,
		logger:    s.logger.With("service", r.Service, "instance", r.ID),
		wake:      retry.NewSignal(),
	}
	for _, spec := range r.Checks {
		spec, err := resolveAddress(spec, r.Address, r.Port)
		if err != nil {
			return nil, err
		}
		c := newCheck(spec)
		if c.prober, err = set.proberOf(spec, o); err != nil {
			return nil, err
		}
		set.checks = append(set.checks, c)
	}
	set.carryOver(o.Previous)
	return set, nil
}

// proberOf returns the prober of a check; nil for ttl.
func (s *Set) proberOf(spec discovery.CheckSpec, o SetOptions) (prober, error) {
	via := network{&net.Dialer{}, s.scheduler.roots, o.Restricted}
	if o.Restricted {
		via.dialer = s.scheduler.targets.dialer()
		if !o.KeepRefused {
			if err := s.scheduler.targets.validate(spec); err != nil {
				return nil, err
			}
		} else if _, err := validateSpec(spec); err != nil {
			s.refused = append(s.refused, err)
			return refusedProber{err}, nil
		} else {
			via.dialer = noting(via.dialer, s.noteRefusals(spec))
		}
	}
	if spec.Type == discovery.CheckTTL {
		return nil, nil
	}
	return newProber(spec, via)
}

// noteRefusals returns a function for each refused connection of a kept check. The refusal counts
// until the check has run again, whatever its schedule.
func (s *Set) noteRefusals(spec discovery.CheckSpec) func(reason error) {
	var until time.Time // s.mu guards it
	return func(reason error) {
		now := time.Now()
		s.mu.Lock()
		begins := now.After(until)
		until = now.Add(3 * time.Duration(spec.Interval)) // a run begins within 1.05 intervals and takes one at most
		if until.After(s.refusedUntil) {
			s.refusedUntil = until
		}
		s.mu.Unlock()
		if begins {
			s.logger.Error("check of a saved registration is refused for now; it is critical until its address is this host's or allowed", "check", spec.ID, "reason", reason)
		}
	}
}

// Refused returns why checks are refused for good that [SetOptions.KeepRefused] keeps.
func (s *Set) Refused() []error { return s.refused }

// RefusedUntil returns until when it says nothing about the instance that a check is critical,
// since a connection of a check that [SetOptions.KeepRefused] keeps was refused; zero: none was.
func (s *Set) RefusedUntil() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refusedUntil
}

// carryOver copies the state of the previous set's checks that are the same.
func (s *Set) carryOver(previous *Set) {
	if previous == nil {
		return
	}
	previous.mu.Lock()
	defer previous.mu.Unlock()
	for _, c := range s.checks {
		if old := previous.find(c.spec.ID); old != nil && reflect.DeepEqual(old.spec, c.spec) {
			c.state = old.state
		}
	}
}

func (s *Set) find(id string) *check {
	for _, c := range s.checks {
		if c.spec.ID == id {
			return c
		}
	}
	return nil
}

// Run runs the checks until ctx ends, and returns when all that they started has ended. Run
// a set once.
func (s *Set) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	for _, c := range s.checks {
		if c.spec.Type == discovery.CheckTTL {
			running.Go(func() { s.runTTL(ctx, c) })
		} else {
			running.Go(func() { s.runPeriodically(ctx, c) })
		}
	}
	s.notify(ctx)
}

// notify calls changed for each report that differs from the one before, until ctx ends.
func (s *Set) notify(ctx context.Context) {
	last := Report{}
	for _, c := range s.checks {
		last.Checks = append(last.Checks, c.status("", ""))
	}
	for {
		if next := s.Current(); !next.equal(last) {
			last = next
			s.changed(next)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
	}
}

// Current returns the present report. Without checks it is passing.
func (s *Set) Current() Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	var r Report
	var statuses []discovery.Status
	for _, c := range s.checks {
		r.Checks = append(r.Checks, c.status(c.state.threshold.status, c.state.cause))
		if status := c.state.threshold.status; status != "" {
			statuses = append(statuses, status)
		}
	}
	worst := discovery.Worst(statuses...)
	if len(statuses) == len(s.checks) || worst == discovery.Critical {
		r.Status = worst
	}
	return r
}

// Checks returns the state of every check, in the order of the registration.
func (s *Set) Checks() []State {
	s.mu.Lock()
	defer s.mu.Unlock()
	states := make([]State, len(s.checks))
	for n, c := range s.checks {
		states[n] = c.snapshot()
	}
	return states
}

// Report records the result of a ttl check; output may be empty. The error is a
// [discovery.ErrNotFound] if there is no such check, and a [discovery.ErrInvalid] if the check
// is of another type or the status is not valid.
func (s *Set) Report(checkID string, status discovery.Status, output string) error {
	c := s.find(checkID)
	switch {
	case c == nil:
		return discovery.Errorf(discovery.ErrNotFound, "there is no check %q", checkID)
	case c.spec.Type != discovery.CheckTTL:
		return discovery.Errorf(discovery.ErrInvalid, "check %q is of type %s; only a ttl check takes reports", checkID, c.spec.Type)
	}
	if err := status.Validate(); err != nil {
		return fmt.Errorf("report of check %q: %w", checkID, err)
	}
	s.recordReport(c, result{status, output})
	return nil
}
