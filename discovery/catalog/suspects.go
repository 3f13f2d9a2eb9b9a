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

	pause time.Duration // for tests that must not depend on time; default burstPause
}

const (
	defaultTTL = 15 * time.Second
	smear      = 5 * time.Second // over which agents register again after a wipe
)

// suspects is the guard at work. All but its prober belongs to the catalog's Run.
type suspects struct {
	*guard
	ttl     time.Duration
	timer   *time.Timer // when to judge again
	prober  *prober
	holding bool // there are suspects, and the log says so
	log     *slog.Logger
	metrics *metrics
}

func newSuspects(o MassLossGuard, log *slog.Logger, metrics *metrics) *suspects {
	if o.TTL <= 0 {
		o.TTL = defaultTTL
	}
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return &suspects{guard: newGuard(o.TTL, o.pause), ttl: o.TTL, timer: timer, prober: newProber(o.Probe), log: log, metrics: metrics}
}

// before marks the deletions among changes, so that the view holds those that died.
func (g *suspects) before(changes []view.Change) {
	if g == nil {
		return
	}
	for n := range changes {
		changes[n].Hold = changes[n].Key.Kind == discovery.KeyInstance && changes[n].Value == nil
	}
}

// after takes in what changes did, and returns the events that are for readers.
func (g *suspects) after(next *view.Snapshot, changes []view.Change, events []view.Event, now time.Time) []view.Event {
	if g == nil {
		return events
	}
	for _, c := range changes {
		if c.Key.Kind == discovery.KeyInstance || c.Key.Kind == discovery.KeyStatic {
			g.changed(next, instance{c.Key.Service, c.Key.ID}, now)
		}
	}
	return slices.DeleteFunc(events, func(e view.Event) bool { return e.Type == view.EventHeld })
}

// changed takes in how an instance stands after a change.
func (g *suspects) changed(s *view.Snapshot, i instance, now time.Time) {
	kept, ok := s.Missing(i.service, i.id)
	if ok {
		if !kept.Suspect {
			g.hold(i, now)
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

// keep returns a part's snapshot that was made anew with the instances that one before shows
// and that it lacks: suspects when etcd started over, which needs its time to hear of
// them again; else to be judged.
func (c *Catalog) keep(next, before *view.Snapshot, p discovery.Scope, over bool) *view.Snapshot {
	g := c.suspects
	if g == nil || c.outdated {
		return next
	}
	now := time.Now()
	g.forget(func(service string) bool { return p == everything || p.Service == service })
	next, kept := next.RetainMissing(before, over)
	for _, k := range kept {
		i := instance{k.Service, k.ID}
		if k.Suspect {
			g.suspect(i, now)
		} else {
			g.hold(i, now)
		}
	}
	if over {
		g.prober.waitUntil(now.Add(g.ttl + smear))
	}
	return next
}

// judge decides over what is kept in the view, and publishes that.
func (c *Catalog) judge() {
	g := c.suspects
	if g == nil {
		return
	}
	now, s := time.Now(), c.state.Load()
	next, events := s.snapshot.Resolve(g.guard.judge(s.snapshot, now))
	if len(events) > 0 {
		changed := make([]string, len(events))
		for n, e := range events {
			changed[n] = discovery.FoldName(e.Service)
			c.departed.note(next, changed[n], now)
		}
		c.publish(next, s.confirmed, changed, events)
	}
	if at := g.next(); at.IsZero() {
		g.timer.Stop()
	} else {
		g.timer.Reset(max(0, at.Sub(now)))
	}
	g.tell(next)
}

// judgeSuspects decides over what is kept when that is due, until ctx ends. While etcd
// is away nothing is dropped.
func (c *Catalog) judgeSuspects(ctx context.Context, follower *reflector.Reflector) {
	for {
		select {
		case <-c.suspects.timer.C:
			follower.Do(ctx, c.judge)
		case i := <-c.suspects.prober.failed:
			follower.Do(ctx, func() { c.condemn(i) })
		case <-ctx.Done():
			return
		}
	}
}

// condemn drops a suspect that did not answer.
func (c *Catalog) condemn(i instance) {
	if c.suspects.guard.condemn(i) {
		c.metrics.suspectsEnded.WithLabelValues("probe").Inc()
		c.judge()
	}
}

// tell shows how many suspects there are, and says when the guard begins and ends.
func (g *suspects) tell(s *view.Snapshot) {
	n := len(g.guard.suspects)
	if g.timeouts > 0 {
		g.metrics.suspectsEnded.WithLabelValues("timeout").Add(float64(g.timeouts))
		g.timeouts = 0
	}
	g.metrics.setSuspects(n)
	switch {
	case n > 0 && !g.holding:
		_, instances, _ := s.Len()
		g.log.Warn("many instances vanished at once, or etcd started over; keeping them as suspects, after the others", "suspects", n, "instances", instances)
		g.prober.awake()
	case n == 0 && g.holding:
		g.log.Warn("no suspects are left: each is registered again, or dropped")
	}
	g.holding = n > 0
}
