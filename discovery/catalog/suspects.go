package catalog

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"disc/discovery"
	"disc/discovery/reflector"
	"disc/discovery/view"
)

// MassLossGuard are the settings of the mass-loss guard. It keeps instances that vanish with
// many others, or with an etcd that starts over: shown as suspects until they are
// registered again, a probe fails or 10 minutes pass. What vanishes is held back for a
// moment, in which etcd may tell of more.
type MassLossGuard struct {
	// TTL is that of the agents' sessions; default 15 s.
	TTL time.Duration
	// Probe fails when nothing answers at an address, host:port, within ctx. It is
	// called for suspects of services that are looked up. nil: nothing is probed.
	Probe func(ctx context.Context, address string) error

	burstPause time.Duration // for tests that must not depend on time; default burstPause
}

const (
	defaultTTL       = 15 * time.Second
	reregisterJitter = 5 * time.Second // over which agents register again after a wipe
)

// suspectTracker is the guard at work. All but its prober belongs to the catalog's Run.
type suspectTracker struct {
	*massLossDetector
	ttl     time.Duration
	timer   *time.Timer // when to judge again
	prober  *prober
	active  bool // there are suspects, and the log says so
	log     *slog.Logger
	metrics *metrics
}

func newSuspectTracker(o MassLossGuard, log *slog.Logger, metrics *metrics) *suspectTracker {
	if o.TTL <= 0 {
		o.TTL = defaultTTL
	}
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return &suspectTracker{massLossDetector: newMassLossDetector(o.TTL, o.burstPause), ttl: o.TTL, timer: timer, prober: newProber(o.Probe), log: log, metrics: metrics}
}

// markDeletions marks the deletions among changes, so that the view holds those that died.
func (g *suspectTracker) markDeletions(changes []view.Change) {
	if g == nil {
		return
	}
	for n := range changes {
		changes[n].Hold = changes[n].Key.Kind == discovery.KeyInstance && changes[n].Value == nil
	}
}

// track takes in what changes did, and returns the events that are for readers.
func (g *suspectTracker) track(next *view.Snapshot, changes []view.Change, events []view.Event, now time.Time) []view.Event {
	if g == nil {
		return events
	}
	for _, c := range changes {
		if c.Key.Kind == discovery.KeyInstance || c.Key.Kind == discovery.KeyStatic {
			g.trackInstance(next, instanceKey{c.Key.Service, c.Key.ID}, now)
		}
	}
	return slices.DeleteFunc(events, func(e view.Event) bool { return e.Type == view.EventHeld })
}

// trackInstance takes in how an instance stands after a change.
func (g *suspectTracker) trackInstance(s *view.Snapshot, i instanceKey, now time.Time) {
	kept, ok := s.Missing(i.service, i.id)
	if ok {
		if !kept.Suspect {
			g.addPending(i, now)
		}
		return
	}
	var stands bool
	if service, ok := s.Service(i.service); ok {
		stands = service.Stands(i.id)
	}
	switch {
	case stands && g.returned(i):
		g.metrics.suspectsEnded.WithLabelValues("returned").Inc()
	case !stands && g.left(i):
		g.metrics.suspectsEnded.WithLabelValues("left").Inc()
	}
}

// retainMissing returns a part's snapshot that was made anew with the instances that one before shows
// and that it lacks: suspects when etcd started over, which needs its time to hear of
// them again; else to be judged.
func (c *Catalog) retainMissing(next, before *view.Snapshot, p discovery.Scope, over bool) *view.Snapshot {
	g := c.suspects
	if g == nil || c.lastGoodExpired {
		return next
	}
	now := time.Now()
	g.forget(func(service string) bool { return p == everything || p.Service == service })
	next, kept := next.RetainMissing(before, over)
	for _, k := range kept {
		i := instanceKey{k.Service, k.ID}
		if k.Suspect {
			g.addSuspect(i, now)
		} else {
			g.addPending(i, now)
		}
	}
	if over {
		g.prober.postpone(now.Add(g.ttl + reregisterJitter))
	}
	return next
}

// resolveMissing decides over what is kept in the view, and publishes that.
func (c *Catalog) resolveMissing() {
	g := c.suspects
	if g == nil {
		return
	}
	now, s := time.Now(), c.state.Load()
	next, events := s.snapshot.Resolve(g.massLossDetector.resolve(s.snapshot, now))
	if len(events) > 0 {
		changed := make([]string, len(events))
		for n, e := range events {
			changed[n] = discovery.FoldName(e.Service)
			c.emptyServices.update(next, changed[n], now)
		}
		c.publish(next, s.confirmed, changed, events)
	}
	if at := g.nextDecision(); at.IsZero() {
		g.timer.Stop()
	} else {
		g.timer.Reset(max(0, at.Sub(now)))
	}
	g.report(next)
}

// resolveLoop decides over what is kept when that is due, until ctx ends. While etcd
// is away nothing is dropped.
func (c *Catalog) resolveLoop(ctx context.Context, follower *reflector.Reflector) {
	for {
		select {
		case <-c.suspects.timer.C:
			follower.Do(ctx, c.resolveMissing)
		case i := <-c.suspects.prober.failed:
			follower.Do(ctx, func() { c.dropUnresponsive(i) })
		case <-ctx.Done():
			return
		}
	}
}

// dropUnresponsive drops a suspect that did not answer.
func (c *Catalog) dropUnresponsive(i instanceKey) {
	if c.suspects.massLossDetector.failProbe(i) {
		c.metrics.suspectsEnded.WithLabelValues("probe").Inc()
		c.resolveMissing()
	}
}

// report shows how many suspects there are, and says when the guard begins and ends.
func (g *suspectTracker) report(s *view.Snapshot) {
	n := len(g.massLossDetector.suspects)
	if g.timeouts > 0 {
		g.metrics.suspectsEnded.WithLabelValues("timeout").Add(float64(g.timeouts))
		g.timeouts = 0
	}
	g.metrics.setSuspects(n)
	switch {
	case n > 0 && !g.active:
		_, instances, _ := s.Len()
		g.log.Warn("many instances vanished at once, or etcd started over; keeping them as suspects, after the others", "suspects", n, "instances", instances)
		g.prober.start()
	case n == 0 && g.active:
		g.log.Warn("no suspects are left: each is registered again, or dropped")
	}
	g.active = n > 0
}
