package catalog

import (
	"cmp"
	"slices"
	"time"

	"disc/discovery/view"
)

// Bounds of the mass-loss guard.
const (
	massPercent   = 15 // above this part of a service's or of all instances
	massOfService = 3  // and from this many of a service
	massOfAll     = 2  // or from this many of all
	leastWindow   = 30 * time.Second
	suspectFor    = 10 * time.Minute

	// etcd takes lapsed leases one by one, in rounds of half a second and of 500 at
	// most. What vanished waits for the rest: until nothing comes for longer than a
	// round, and the longer the more have vanished.
	burstPause = time.Second
	lonePause  = 250 * time.Millisecond // of one that vanished alone
	burstEach  = 100 * time.Millisecond
	burstMost  = 15 * time.Second
)

// instance names an instance.
type instance struct{ service, id string } // service folded

func (i instance) compare(other instance) int {
	return cmp.Or(cmp.Compare(i.service, other.service), cmp.Compare(i.id, other.id))
}

// loss is an instance that vanished a while ago.
type loss struct {
	at      time.Time
	dropped bool // it is not shown any more
}

// guard decides what becomes of instances whose records vanished although nobody said
// goodbye. It is told the time, and does nothing by itself.
type guard struct {
	pause    time.Duration          // of a burst, that ends it
	lone     time.Duration          // the same, of one instance
	window   time.Duration          // losses within it count together
	losses   map[instance]loss      // within the window, whatever became of them
	held     map[instance]bool      // not judged yet
	suspects map[instance]time.Time // until when they are kept
	burst    time.Time              // when the first of held vanished
	decide   time.Time              // when those held are dropped
	expire   time.Time              // no suspect's time is over before
	timeouts int                    // suspects whose time was over, since somebody counted
}

func newGuard(ttl, pause time.Duration) *guard {
	return &guard{
		pause: cmp.Or(pause, burstPause), lone: cmp.Or(pause, lonePause), window: max(ttl, leastWindow),
		losses: map[instance]loss{}, held: map[instance]bool{}, suspects: map[instance]time.Time{},
	}
}

// forget begins anew with some services.
func (g *guard) forget(of func(service string) bool) {
	for i := range g.losses {
		if of(i.service) {
			delete(g.losses, i)
		}
	}
	for i := range g.held {
		if of(i.service) {
			delete(g.held, i)
		}
	}
	for i := range g.suspects {
		if of(i.service) {
			delete(g.suspects, i)
		}
	}
}

// hold takes in that an instance has vanished.
func (g *guard) hold(i instance, now time.Time) {
	if len(g.held) == 0 {
		g.burst = now
	}
	g.held[i] = true
	g.losses[i] = loss{at: now}
	pause, most := g.pause, min(time.Duration(len(g.held))*burstEach, burstMost)
	if len(g.held) == 1 {
		pause = g.lone
	}
	g.decide = earlier(now.Add(pause), g.burst.Add(max(most, pause)))
}

// suspect takes in that an instance is kept, whatever became of others.
func (g *guard) suspect(i instance, now time.Time) {
	until := now.Add(suspectFor)
	if len(g.suspects) == 0 || until.Before(g.expire) {
		g.expire = until
	}
	delete(g.held, i)
	g.suspects[i] = until
}

// condemn has a suspect dropped with the next judgement, and reports whether it is one.
func (g *guard) condemn(i instance) bool {
	if _, ok := g.suspects[i]; !ok {
		return false
	}
	g.suspects[i], g.expire = time.Time{}, time.Time{}
	return true
}

// returned takes in that an instance's record was written again, and reports whether
// the instance was a suspect.
func (g *guard) returned(i instance) bool {
	if l, ok := g.losses[i]; ok {
		g.losses[i] = loss{at: l.at}
	}
	return g.release(i)
}

// left takes in that an instance is gone on purpose, and reports whether it was a
// suspect.
func (g *guard) left(i instance) bool {
	delete(g.losses, i)
	return g.release(i)
}

func (g *guard) release(i instance) bool {
	_, ok := g.suspects[i]
	delete(g.suspects, i)
	delete(g.held, i)
	return ok
}

// judge returns what becomes, now, of those that are kept in a snapshot, sorted by
// service and id.
func (g *guard) judge(s *view.Snapshot, now time.Time) []view.Decision {
	var verdicts []view.Decision
	verdict := func(i instance, suspect bool) {
		verdicts = append(verdicts, view.Decision{Service: i.service, ID: i.id, Suspect: suspect})
	}
	for i := range g.lapsed(now) {
		verdict(i, false)
	}
	if len(g.held) > 0 {
		mass := g.mass(s, now)
		for i := range g.held {
			switch {
			case mass(i.service):
				g.suspect(i, now)
				verdict(i, true)
			case !now.Before(g.decide):
				delete(g.held, i)
				g.losses[i] = loss{g.losses[i].at, true}
				verdict(i, false)
			}
		}
	}
	slices.SortFunc(verdicts, func(a, b view.Decision) int {
		return instance{a.Service, a.ID}.compare(instance{b.Service, b.ID})
	})
	return verdicts
}

// lapsed takes out the suspects whose time is over.
func (g *guard) lapsed(now time.Time) map[instance]bool {
	if len(g.suspects) == 0 || now.Before(g.expire) {
		return nil
	}
	over := map[instance]bool{}
	g.expire = now.Add(suspectFor)
	for i, until := range g.suspects {
		if until.After(now) {
			g.expire = earlier(g.expire, until)
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

// mass returns a function that reports whether a service, or everything, has lost so
// many instances within the window that death is not the likely cause.
func (g *guard) mass(s *view.Snapshot, now time.Time) func(service string) bool {
	type tally struct{ lost, shown int }
	var all tally
	services := map[string]tally{}
	for i, l := range g.losses {
		if now.Sub(l.at) > g.window && !g.held[i] {
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
		return isMass(of.lost, of.shown, massOfService) || isMass(all.lost, all.shown, massOfAll)
	}
}

func isMass(lost, of, least int) bool { return lost >= least && lost*100 > of*massPercent }

// next returns when to judge again; zero: when something happens.
func (g *guard) next() time.Time {
	switch {
	case len(g.held) == 0 && len(g.suspects) == 0:
		return time.Time{}
	case len(g.suspects) == 0:
		return g.decide
	case len(g.held) == 0:
		return g.expire
	}
	return earlier(g.decide, g.expire)
}
