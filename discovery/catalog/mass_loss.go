package catalog

import (
	"cmp"
	"slices"
	"time"

	"disc/discovery/view"
)

// Bounds of the mass-loss guard.
const (
	// A mass loss is more than 15 % of the instances of a service and at least 3 of them, or
	// more than 15 % of all instances and at least 2 of them.
	massLossPercent   = 15
	massLossOfService = 3
	massLossOfAll     = 2
	minLossWindow     = 30 * time.Second // in which losses count together, or the TTL if that is longer
	suspectTimeout    = 10 * time.Minute

	// etcd revokes expired leases one by one, in rounds of half a second with at most 500
	// each. A decision on vanished instances, be it a single one, waits until no loss has
	// come for longer than a round. The wait grows with the number of losses, up to maxBurst.
	burstPause   = time.Second
	burstPerLoss = 100 * time.Millisecond
	maxBurst     = 15 * time.Second
)

// instanceKey identifies an instance.
type instanceKey struct{ service, id string } // the service's name is folded

func (i instanceKey) compare(other instanceKey) int {
	return cmp.Or(cmp.Compare(i.service, other.service), cmp.Compare(i.id, other.id))
}

// loss is the loss of an instance, within the window.
type loss struct {
	at      time.Time
	dropped bool // the instance is not shown any more
}

// massLossDetector decides which of the instances whose records vanished without a
// tombstone are dropped, and which are shown as suspects. It has no clock and no goroutine
// of its own: callers pass the time.
type massLossDetector struct {
	burstPause time.Duration             // without a loss; it ends a burst
	window     time.Duration             // losses within it count together
	losses     map[instanceKey]loss      // within the window, whatever was decided
	pending    map[instanceKey]bool      // vanished, and not decided yet
	suspects   map[instanceKey]time.Time // with the time at which each expires
	kept       map[instanceKey]bool      // missing, and kept by order of an operator; nil: none
	burstStart time.Time                 // when the first of pending vanished
	decideAt   time.Time                 // when those of pending are dropped
	expireAt   time.Time                 // the earliest time at which a suspect may expire
	timeouts   int                       // suspects that expired since the metric was last updated

	reregisterUntil time.Time // until then every loss makes a suspect, be it a single one
}

func newMassLossDetector(ttl, pause time.Duration) *massLossDetector {
	return &massLossDetector{
		burstPause: cmp.Or(pause, burstPause), window: max(ttl, minLossWindow),
		losses: map[instanceKey]loss{}, pending: map[instanceKey]bool{}, suspects: map[instanceKey]time.Time{},
	}
}

// forget drops the state of the services that match reports.
func (d *massLossDetector) forget(match func(service string) bool) {
	for i := range d.losses {
		if match(i.service) {
			delete(d.losses, i)
		}
	}
	for i := range d.pending {
		if match(i.service) {
			delete(d.pending, i)
		}
	}
	for i := range d.suspects {
		if match(i.service) {
			delete(d.suspects, i)
		}
	}
}

// addPending records that an instance has vanished.
func (d *massLossDetector) addPending(i instanceKey, now time.Time) {
	if len(d.pending) == 0 {
		d.burstStart = now
	}
	d.pending[i] = true
	d.losses[i] = loss{at: now}
	maxWait := min(time.Duration(len(d.pending))*burstPerLoss, maxBurst)
	d.decideAt = earlier(now.Add(d.burstPause), d.burstStart.Add(max(maxWait, d.burstPause)))
}

// addSuspect makes an instance a suspect, whatever is decided on others.
func (d *massLossDetector) addSuspect(i instanceKey, now time.Time) {
	until := now.Add(suspectTimeout)
	if len(d.suspects) == 0 || until.Before(d.expireAt) {
		d.expireAt = until
	}
	delete(d.pending, i)
	d.suspects[i] = until
}

// failProbe makes a suspect expire at the next resolve. It returns false if the instance is
// no suspect.
func (d *massLossDetector) failProbe(i instanceKey) bool {
	if _, ok := d.suspects[i]; !ok || d.kept[i] {
		return false
	}
	d.suspects[i], d.expireAt = time.Time{}, time.Time{}
	return true
}

// drop makes a missing instance, whether it is decided yet or not, expire at the next resolve. It
// returns false if the instance is not missing.
func (d *massLossDetector) drop(i instanceKey) bool {
	if !d.isMissing(i) {
		return false
	}
	delete(d.pending, i)
	d.suspects[i], d.expireAt = time.Time{}, time.Time{}
	return true
}

// isMissing reports whether an instance is missing, whether it is decided yet or not.
func (d *massLossDetector) isMissing(i instanceKey) bool {
	_, suspect := d.suspects[i]
	return suspect || d.pending[i]
}

// setKept keeps a missing instance as a suspect until it is called with false. Then the time at which
// the suspect expires counts again.
func (d *massLossDetector) setKept(i instanceKey, kept bool) {
	if !kept {
		delete(d.kept, i)
		d.expireAt = time.Time{}
		return
	}
	if d.kept == nil {
		d.kept = map[instanceKey]bool{}
	}
	d.kept[i] = true
}

// returned records that an instance's record was written again. It reports whether the
// instance was a suspect.
func (d *massLossDetector) returned(i instanceKey) bool {
	if l, ok := d.losses[i]; ok {
		d.losses[i] = loss{at: l.at}
	}
	return d.remove(i)
}

// left records that an instance was deregistered. It reports whether the instance was a
// suspect.
func (d *massLossDetector) left(i instanceKey) bool {
	delete(d.losses, i)
	return d.remove(i)
}

func (d *massLossDetector) remove(i instanceKey) bool {
	_, ok := d.suspects[i]
	delete(d.suspects, i)
	delete(d.pending, i)
	return ok
}

// resolve returns the decisions that are due on the missing instances of a snapshot, sorted
// by service and id.
func (d *massLossDetector) resolve(s *view.Snapshot, now time.Time) []view.Decision {
	var decisions []view.Decision
	decide := func(i instanceKey, suspect bool) {
		decisions = append(decisions, view.Decision{Service: i.service, ID: i.id, Suspect: suspect})
	}
	for i := range d.takeExpired(now) {
		decide(i, false)
	}
	if len(d.pending) > 0 {
		mass := d.massLoss(s, now)
		for i := range d.pending {
			switch {
			case now.Before(d.reregisterUntil) || d.kept[i] || mass(i.service):
				d.addSuspect(i, now)
				decide(i, true)
			case !now.Before(d.decideAt):
				delete(d.pending, i)
				d.losses[i] = loss{d.losses[i].at, true}
				decide(i, false)
			}
		}
	}
	slices.SortFunc(decisions, func(a, b view.Decision) int {
		return instanceKey{a.Service, a.ID}.compare(instanceKey{b.Service, b.ID})
	})
	return decisions
}

// takeExpired removes and returns the suspects that have expired.
func (d *massLossDetector) takeExpired(now time.Time) map[instanceKey]bool {
	if len(d.suspects) == 0 || now.Before(d.expireAt) {
		return nil
	}
	expired := map[instanceKey]bool{}
	d.expireAt = now.Add(suspectTimeout)
	for i, until := range d.suspects {
		if d.kept[i] {
			continue
		}
		if until.After(now) {
			d.expireAt = earlier(d.expireAt, until)
			continue
		}
		expired[i] = true
		if !until.IsZero() {
			d.timeouts++
		}
		delete(d.suspects, i)
	}
	return expired
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// massLoss returns a function that reports whether a service, or the whole view, has lost so
// many instances within the window that their own failure is not the likely cause.
func (d *massLossDetector) massLoss(s *view.Snapshot, now time.Time) func(service string) bool {
	type tally struct{ lost, shown int }
	var all tally
	services := map[string]tally{}
	for i, l := range d.losses {
		if now.Sub(l.at) > d.window && !d.pending[i] {
			delete(d.losses, i)
			continue
		}
		counts := services[i.service]
		counts.lost, all.lost = counts.lost+1, all.lost+1
		if l.dropped {
			counts.shown, all.shown = counts.shown+1, all.shown+1 // it was shown before the loss
		}
		services[i.service] = counts
	}
	for service := range s.Services() {
		all.shown += service.Registered()
	}
	return func(name string) bool {
		counts := services[name]
		if service, ok := s.Service(name); ok {
			counts.shown += service.Registered()
		}
		return exceedsThreshold(counts.lost, counts.shown, massLossOfService) || exceedsThreshold(all.lost, all.shown, massLossOfAll)
	}
}

func exceedsThreshold(lost, total, least int) bool {
	return lost >= least && lost*100 > total*massLossPercent
}

// nextDecision returns the time of the next decision; zero: none is due before a change.
func (d *massLossDetector) nextDecision() time.Time {
	switch {
	case len(d.pending) == 0 && len(d.suspects) == 0:
		return time.Time{}
	case len(d.suspects) == 0:
		return d.decideAt
	case len(d.pending) == 0:
		return d.expireAt
	}
	return earlier(d.decideAt, d.expireAt)
}
