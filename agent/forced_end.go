package agent

import (
	"slices"
	"time"

	"disc/agent/httpapi"
	"disc/discovery"
)

const (
	// forcedTime is for how long a holder that lost an instance by force cannot hold it again. It is
	// longer than HoldGrace, in which holders come back by themselves.
	forcedTime = time.Minute

	// maxForced is the most ends of holds that are remembered; the oldest are forgotten first.
	maxForced = 1000
)

// forcedEnd is the end of a hold by force.
type forcedEnd struct {
	instance instanceKey
	holder   httpapi.Holder // who held it
	by       string
	until    time.Time // for as long the holder cannot hold it again
}

// rememberForced keeps the holder of an instance from holding it again for forcedTime.
func (g *registrar) rememberForced(spec discovery.Registration, holder, by httpapi.Holder) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forgetForced()
	g.forced = append(g.forced, forcedEnd{keyOf(spec.Service, spec.ID), holder, by.String(), time.Now().Add(forcedTime)})
	g.forced = g.forced[max(0, len(g.forced)-maxForced):]
}

// forcedOut returns an [*httpapi.ForcedOutError] if an instance was taken from a caller by force
// within forcedTime.
func (g *registrar) forcedOut(spec discovery.Registration, by httpapi.Holder) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forgetForced()
	for _, end := range slices.Backward(g.forced) {
		if end.instance == keyOf(spec.Service, spec.ID) && end.holder.Resembles(by) {
			return &httpapi.ForcedOutError{Service: spec.Service, ID: spec.ID, By: end.by, Until: end.until}
		}
	}
	return nil
}

// forgetForced forgets the ends of holds that are over. g.mu is held.
func (g *registrar) forgetForced() {
	now := time.Now()
	g.forced = slices.DeleteFunc(g.forced, func(end forcedEnd) bool { return !now.Before(end.until) })
}
