package catalog

import (
	"cmp"
	"slices"
	"time"

	"disc/discovery/view"
)

// Bounds of the mass-loss guard.
const (
	massLossPercent   = 15 // above this part of a service's or of all instances
	massLossOfService = 3  // and from this many of a service
	massLossOfAll     = 2  // or from this many of all
	minLossWindow     = 30 * time.Second
	suspectTimeout    = 10 * time.Minute

	// etcd takes lapsed leases one by one, in rounds of half a second and of 500 at
	// most. What vanished waits for the rest: until nothing comes for longer than a
	// round, and the longer the more have vanished.
	burstPause   = time.Second
	lonePause    = 250 * time.Millisecond // of one that vanished alone
	burstPerLoss = 100 * time.Millisecond
	maxBurst     = 15 * time.Second
)

// instanceKey names an instance.
type instanceKey struct{ service, id string } // service folded

func (i instanceKey) compare(other instanceKey) int {
	return cmp.Or(cmp.Compare(i.service, other.service), cmp.Compare(i.id, other.id))
}

// loss is an instance that vanished a while ago.
type loss struct {
	at      time.Time
	dropped bool // it is not shown any more
}

// massLossDetector decides what becomes of instances whose records vanished although nobody said
// goodbye. It is told the time, and does nothing by itself.
type massLossDetector struct {
	burstPause time.Duration             // of a burst, that ends it
	lonePause  time.Duration             // the same, of one instance
	window     time.Duration             // losses within it count together
	losses     map[instanceKey]loss      // within the window, whatever became of them
	pending    map[instanceKey]bool      // not judged yet
	suspects   map[instanceKey]time.Time // until when they are kept
	burstStart time.Time                 // when the first of held vanished
	decideAt   time.Time                 // when those held are dropped
	expireAt   time.Time                 // no suspect's time is over before
	timeouts   int                       // suspects whose time was over, since somebody counted
}

func newMassLossDetector(ttl, pause time.Duration) *massLossDetector {
	return &massLossDetector{
		burstPause: cmp.Or(pause, burstPause), lonePause: cmp.Or(pause, lonePause), window: max(ttl, minLossWindow),
		losses: map[instanceKey]loss{}, pending: map[instanceKey]bool{}, suspects: map[instanceKey]time.Time{},
	}
}

// forget begins anew with some services.
func (g *massLossDetector) forget(of func(service string) bool) {
	for i := range g.losses {
		if of(i.service) {
			delete(g.losses, i)
		}
	}
	for i := range g.pending {
		if of(i.service) {
			delete(g.pending, i)
		}
	}
	for i := range g.suspects {
		if of(i.service) {
			delete(g.suspects, i)
		}
	}
}

// addPending takes in that an instance has vanished.
func (g *massLossDetector) addPending(i instanceKey, now time.Time) {
	if len(g.pending) == 0 {
		g.burstStart = now
	}
	g.pending[i] = true
	g.losses[i] = loss{at: now}
	pause, most := g.burstPause, min(time.Duration(len(g.pending))*burstPerLoss, maxBurst)
	if len(g.pending) == 1 {
		pause = g.lonePause
	}
	g.decideAt = earlier(now.Add(pause), g.burstStart.Add(max(most, pause)))
}

// addSuspect takes in that an instance is kept, whatever became of others.
func (g *massLossDetector) addSuspect(i instanceKey, now time.Time) {
	until := now.Add(suspectTimeout)
	if len(g.suspects) == 0 || until.Before(g.expireAt) {
		g.expireAt = until
	}
	delete(g.pending, i)
	g.suspects[i] = until
}

// failProbe has a suspect dropped with the next judgement, and reports whether it is one.
func (g *massLossDetector) failProbe(i instanceKey) bool {
	if _, ok := g.suspects[i]; !ok {
		return false
	}
	g.suspects[i], g.expireAt = time.Time{}, time.Time{}
	return true
}

// returned takes in that an instance's record was written again, and reports whether
// the instance was a suspect.
func (g *massLossDetector) returned(i instanceKey) bool {
	if l, ok := g.losses[i]; ok {
		g.losses[i] = loss{at: l.at}
	}
	return g.remove(i)
}

// left takes in that an instance is gone on purpose, and reports whether it was a
// suspect.
func (g *massLossDetector) left(i instanceKey) bool {
	delete(g.losses, i)
	return g.remove(i)
}

func (g *massLossDetector) remove(i instanceKey) bool {
	_, ok := g.suspects[i]
	delete(g.suspects, i)
	delete(g.pending, i)
	return ok
}

// resolve returns what becomes, now, of those that are kept in a snapshot, sorted by
// service and id.
func (g *massLossDetector) resolve(s *view.Snapshot, now time.Time) []view.Decision {
	var verdicts []view.Decision
	verdict := func(i instanceKey, suspect bool) {
		verdicts = append(verdicts, view.Decision{Service: i.service, ID: i.id, Suspect: suspect})
	}
	for i := range g.takeExpired(now) {
		verdict(i, false)
	}
	if len(g.pending) > 0 {
		mass := g.massLoss(s, now)
		for i := range g.pending {
			switch {
			case mass(i.service):
				g.addSuspect(i, now)
				verdict(i, true)
			case !now.Before(g.decideAt):
				delete(g.pending, i)
				g.losses[i] = loss{g.losses[i].at, true}
				verdict(i, false)
			}
		}
	}
	slices.SortFunc(verdicts, func(a, b view.Decision) int {
		return instanceKey{a.Service, a.ID}.compare(instanceKey{b.Service, b.ID})
	})
	return verdicts
}

// takeExpired takes out the suspects whose time is over.
func (g *massLossDetector) takeExpired(now time.Time) map[instanceKey]bool {
	if len(g.suspects) == 0 || now.Before(g.expireAt) {
		return nil
	}
	over := map[instanceKey]bool{}
	g.expireAt = now.Add(suspectTimeout)
	for i, until := range g.suspects {
		if until.After(now) {
			g.expireAt = earlier(g.expireAt, until)
			continue
		}
		over[i] = true
		if !until.IsZero() {
			g.timeouts++
		}
		delete(g.suspects, i)
	}
	return over
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// massLoss returns a function that reports whether a service, or everything, has lost so
// many instances within the window that death is not the likely cause.
func (g *massLossDetector) massLoss(s *view.Snapshot, now time.Time) func(service string) bool {
	type tally struct{ lost, shown int }
	var all tally
	services := map[string]tally{}
	for i, l := range g.losses {
		if now.Sub(l.at) > g.window && !g.pending[i] {
			delete(g.losses, i)
			continue
		}
		of := services[i.service]
		of.lost, all.lost = of.lost+1, all.lost+1
		if l.dropped {
			of.shown, all.shown = of.shown+1, all.shown+1 // then
		}
		services[i.service] = of
	}
	for service := range s.Services() {
		all.shown += service.Registered()
	}
	return func(name string) bool {
		of := services[name]
		if service, ok := s.Service(name); ok {
			of.shown += service.Registered()
		}
		return exceedsThreshold(of.lost, of.shown, massLossOfService) || exceedsThreshold(all.lost, all.shown, massLossOfAll)
	}
}

func exceedsThreshold(lost, of, least int) bool {
	return lost >= least && lost*100 > of*massLossPercent
}

// nextDecision returns when to judge again; zero: when something happens.
func (g *massLossDetector) nextDecision() time.Time {
	switch {
	case len(g.pending) == 0 && len(g.suspects) == 0:
		return time.Time{}
	case len(g.suspects) == 0:
		return g.decideAt
	case len(g.pending) == 0:
		return g.expireAt
	}
	return earlier(g.decideAt, g.expireAt)
}
