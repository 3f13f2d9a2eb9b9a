package catalog

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"disc/discovery"
	"disc/discovery/reflector"
	"disc/discovery/view"
)

// MassLossGuard are the settings of the mass-loss guard. It retains instances that vanish
// together with many others, or when etcd starts over, and shows them as suspects until
// they are registered again, a probe fails or 10 minutes pass. It delays the decision on a
// vanished instance for a moment, in which more may vanish.
type MassLossGuard struct {
	// TTL is the time to live of the agents' sessions; default 15 s.
	TTL time.Duration
	// Probe returns an error when nothing answers at an address, host:port, before ctx
	// ends. It is called for suspects of services that are looked up. nil: no probes.
	Probe func(ctx context.Context, address string) error

	burstPause time.Duration // for tests that must not depend on time; default burstPause
}

const defaultTTL = 15 * time.Second

// suspectTracker applies the mass-loss guard to a catalog. A nil one does nothing. Except
// for its prober, it is used by the catalog's Run alone.
type suspectTracker struct {
	*massLossDetector
	orders  orders               // of operators
	listed  map[instanceKey]bool // missing, undecided, and found by comparing with etcd
	ttl     time.Duration
	timer   *time.Timer // fires when the next decision is due
	prober  *prober
	active  bool // there are suspects, and that was logged
	log     *slog.Logger
	metrics *metrics
}

func newSuspectTracker(o MassLossGuard, log *slog.Logger, metrics *metrics) *suspectTracker {
	if o.TTL <= 0 {
		o.TTL = defaultTTL
	}
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return &suspectTracker{massLossDetector: newMassLossDetector(o.TTL, o.burstPause), ttl: o.TTL, timer: timer, listed: map[instanceKey]bool{}, prober: newProber(o.Probe), log: log, metrics: metrics}
}

// markDeletions marks the deletions of instances, so that the view retains those without a
// tombstone as missing.
func (t *suspectTracker) markDeletions(changes []view.Change) {
	if t == nil {
		return
	}
	for n := range changes {
		changes[n].Hold = changes[n].Key.Kind == discovery.KeyInstance && changes[n].Value == nil
	}
}

// track records the effect of changes on instances. It returns the events that are for
// readers.
func (t *suspectTracker) track(next *view.Snapshot, changes []view.Change, events []view.Event, listed bool, now time.Time) []view.Event {
	if t == nil {
		return events
	}
	for _, c := range changes {
		if c.Key.Kind == discovery.KeyInstance || c.Key.Kind == discovery.KeyStatic {
			t.trackInstance(next, instanceKey{c.Key.Service, c.Key.ID}, listed, now)
		}
	}
	return slices.DeleteFunc(events, func(e view.Event) bool { return e.Type == view.EventHeld })
}

// trackInstance records whether an instance is missing, present or gone after a change.
func (t *suspectTracker) trackInstance(s *view.Snapshot, i instanceKey, listed bool, now time.Time) {
	missing, ok := s.Missing(i.service, i.id)
	if ok {
		if !missing.Suspect {
			t.addMissing(i, listed, now)
		}
		return
	}
	delete(t.listed, i)
	t.endOrder(i)
	var present bool
	if service, ok := s.Service(i.service); ok {
		present = service.HasLiveRecord(i.id)
	}
	switch {
	case present && t.returned(i):
		t.metrics.suspectsEnded.WithLabelValues("returned").Inc()
	case !present && t.left(i):
		t.metrics.suspectsEnded.WithLabelValues("left").Inc()
	}
}

// addMissing records that an instance has vanished. listed: a listing of etcd lacks it, so that how
// it went is not known.
func (t *suspectTracker) addMissing(i instanceKey, listed bool, now time.Time) {
	t.addPending(i, now)
	if listed {
		t.listed[i] = true
	}
}

// forget drops the state of the services that match reports.
func (t *suspectTracker) forget(match func(service string) bool) {
	t.massLossDetector.forget(match)
	maps.DeleteFunc(t.listed, func(i instanceKey, _ bool) bool { return match(i.service) })
}

// isListed reports whether a listing of etcd lacks an instance, on which no decision was made yet.
func (t *suspectTracker) isListed(i instanceKey) bool { return t != nil && t.listed[i] }

// noteResync records that the catalog follows etcd again. If etcd was away for longer than the
// TTL, all leases may have expired. What is listed now are the agents that are back already, and
// whoever is missing gets time to register again.
func (c *Catalog) noteResync() {
	s := c.state.Load()
	if c.suspects == nil || s == nil || s.restored || time.Since(s.confirmed) <= c.suspects.ttl {
		return
	}
	// etcd extends all leases by a TTL when it is back.
	c.suspects.reregisterUntil = time.Now().Add(c.suspects.ttl + discovery.MaxReregisterJitter)
	c.suspects.prober.postpone(c.suspects.reregisterUntil)
}

// retainMissing adds to the new snapshot of a scope the instances that the one before shows
// and that it lacks. When etcd has started over they are suspects, since the agents need
// time to register them again; otherwise a decision on them is pending.
func (c *Catalog) retainMissing(next, before *view.Snapshot, scope discovery.Scope, startedOver bool) *view.Snapshot {
	t := c.suspects
	if t == nil || c.lastGoodExpired {
		return next
	}
	now := time.Now()
	t.forget(func(service string) bool { return scope == everything || scope.Service == service })
	next, missing := next.RetainMissing(before, startedOver)
	for _, m := range missing {
		i := instanceKey{m.Service, m.ID}
		if m.Suspect {
			t.addSuspect(i, now)
		} else {
			t.addMissing(i, true, now)
		}
	}
	t.endOrders(scope)
	if startedOver {
		t.prober.postpone(now.Add(t.ttl + discovery.MaxReregisterJitter))
	}
	return next
}

// resolveMissing makes the due decisions on missing instances and publishes the result.
func (c *Catalog) resolveMissing() {
	t := c.suspects
	if t == nil {
		return
	}
	now, s := time.Now(), c.state.Load()
	next, events := s.snapshot.Resolve(t.massLossDetector.resolve(s.snapshot, now))
	if len(events) > 0 {
		changed := make([]string, len(events))
		for n, e := range events {
			changed[n] = discovery.FoldName(e.Service)
			c.emptyServices.update(next, changed[n], now)
		}
		resolved := *s
		resolved.snapshot = next
		c.recordEvents(s.snapshot, events, nil, false)
		for _, e := range events {
			delete(t.listed, instanceKey{discovery.FoldName(e.Service), e.ID})
		}
		c.publish(resolved, changed, events)
	}
	if at := t.nextDecision(); at.IsZero() {
		t.timer.Stop()
	} else {
		t.timer.Reset(max(0, at.Sub(now)))
	}
	t.report(next)
}

// resolveLoop resolves missing instances when a decision is due, until ctx ends. While etcd
// is away it drops none.
func (c *Catalog) resolveLoop(ctx context.Context, r *reflector.Reflector) {
	for {
		select {
		case <-c.suspects.timer.C:
			_ = r.Do(ctx, c.resolveMissing) // fails only when ctx ends
		case i := <-c.suspects.prober.failed:
			_ = r.Do(ctx, func() { c.dropUnresponsive(i) })
		case <-ctx.Done():
			return
		}
	}
}

// dropUnresponsive drops a suspect whose probe failed.
func (c *Catalog) dropUnresponsive(i instanceKey) {
	if c.suspects.massLossDetector.failProbe(i) {
		c.metrics.suspectsEnded.WithLabelValues("probe").Inc()
		c.resolveMissing()
	}
}

// report updates the metrics, and logs when the first suspect appears and the last is gone. It
// wakes the prober whenever there are suspects: the prober may have seen none of them, or
// belong to a later Run.
func (t *suspectTracker) report(s *view.Snapshot) {
	n := len(t.massLossDetector.suspects)
	if t.timeouts > 0 {
		t.metrics.suspectsEnded.WithLabelValues("timeout").Add(float64(t.timeouts))
		t.timeouts = 0
	}
	t.metrics.setSuspects(n)
	switch {
	case n > 0 && !t.active:
		_, instances, _ := s.Len()
		t.log.Warn("many instances vanished at once, or etcd started over; showing them as suspects, after the others", "suspects", n, "instances", instances)
	case n == 0 && t.active:
		t.log.Warn("no suspects are left: each is registered again, or dropped")
	}
	t.active = n > 0
	if t.active {
		t.prober.wake.Notify()
	}
}
