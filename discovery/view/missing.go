package view

import (
	"slices"

	"disc/discovery"
)

// missingState is how far a record that is gone from etcd is from being gone from the
// snapshot. A record that lapsed may be kept for a while: many at once are rather the
// fault of etcd or of the network than deaths.
type missingState uint8

const (
	notMissing     missingState = iota // etcd has the record, or there is none
	missingHeld                        // gone from etcd, and shown as before until it is judged
	missingSuspect                     // gone from etcd, shown as suspect
)

// Decision is what becomes of a record that vanished and is kept.
type Decision struct {
	Service, ID string
	Suspect     bool // keep showing it, as suspect; else drop it
}

// Missing names an instance that is shown although its record is gone from etcd.
type Missing struct {
	Service string // folded
	ID      string
	Suspect bool // else it is held: shown as before, and to be judged
}

// Resolve returns the snapshot after verdicts over records that vanished, with the
// events that they make. A record that has come back meanwhile, or is gone, is left
// alone. What changes does so at the snapshot's revision, in a step of its own.
func (s *Snapshot) Resolve(verdicts []Decision) (next *Snapshot, events []Event) {
	if len(verdicts) == 0 {
		return s, nil
	}
	a := applier{revision: s.revision, before: s, services: s.services}
	for _, v := range verdicts {
		a.resolve(v, s.step+1)
	}
	if len(a.events) == 0 {
		return s, nil
	}
	for _, service := range a.writing {
		service.advance(s.revision)
	}
	copied := *s
	next = &copied
	next.services = a.seal()
	next.step++
	next.servicesStep = next.step
	next.servicesRevision = s.revision
	return next, a.events
}

func (a *applier) resolve(v Decision, step int64) {
	name := discovery.FoldName(v.Service)
	if service, ok := a.services.get(name); !ok || service.instance(v.ID).missingState() == notMissing {
		return
	}
	service := a.writable(name, false)
	before := service.instance(v.ID)
	after := *before
	e := Event{Revision: a.revision, Step: step, Type: EventDelete, Service: before.entry.Service, ID: v.ID, Reason: ReasonExpired}
	if v.Suspect {
		after.missing = missingSuspect
	} else {
		after.agent, after.missing = record{}, notMissing
	}
	after.merge()
	service.put(&after)
	service.memo = nil
	if after.entry != nil {
		e.Type, e.Reason, e.Entry = EventPut, "", after.entry
	}
	if before.missing != after.missing {
		a.events = append(a.events, e)
	}
}

// advance moves the service's revision to the snapshot's or, where it is there already,
// its index to another.
func (s *Service) advance(revision int64) {
	if revision > s.Revision {
		s.Revision, s.steps = revision, 0
	} else {
		s.steps++
	}
}

// missingState returns how far the slot's record is on its way out.
func (m *mergedInstance) missingState() missingState {
	if m == nil {
		return notMissing
	}
	return m.missing
}

// RetainMissing returns the snapshot with those instances of agents that another shows and that
// it lacks: as suspects, or held. It says which these are.
func (s *Snapshot) RetainMissing(other *Snapshot, suspects bool) (next *Snapshot, kept []Missing) {
	a := applier{revision: s.revision, before: s, services: s.services}
	as := missingHeld
	if suspects {
		as = missingSuspect
	}
	for key, service := range other.services.all() {
		for _, m := range service.instances {
			if m.entry != nil && m.entry.Source == SourceAgent && a.retain(key, *m, as) {
				kept = append(kept, Missing{key, m.id, suspects})
			}
		}
	}
	copied := *s
	next = &copied
	next.services = a.seal()
	return next, kept
}

// retain adds the slot of another snapshot, unless this one has the instance.
func (a *applier) retain(name string, m mergedInstance, as missingState) bool {
	if service, ok := a.services.get(name); ok {
		if now := service.instance(m.id); now != nil && (now.agent.Instance != nil || now.static.Instance != nil) {
			return false
		}
	}
	service := a.writable(name, true)
	service.Revision = max(service.Revision, a.revision)
	m.missing, m.static, m.override, m.load = as, record{}, nil, nil
	if now := service.instance(m.id); now != nil {
		m.override, m.load = now.override, now.load
	}
	m.merge()
	service.put(&m)
	service.memo = nil
	return true
}

// Missing returns whether an instance is shown although its record is gone from etcd, and
// how.
func (s *Snapshot) Missing(service, id string) (Missing, bool) {
	of, ok := s.Service(service)
	if !ok {
		return Missing{}, false
	}
	how := of.instance(id).missingState()
	return Missing{discovery.FoldName(service), id, how == missingSuspect}, how != notMissing
}

// Suspects returns the entries that are suspect, sorted by id.
func (s *Service) Suspects() []*Entry {
	if s.asked == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(s.entries), func(e *Entry) bool { return !e.Suspect })
}

// Registered returns how many instances of agents are shown, kept ones among them.
func (s *Service) Registered() int { return s.registered }

// MarkUsed records that somebody looks the service up. See [Service.ConsumeUsed] and [Service.ConsumeAsked].
func (s *Service) MarkUsed() {
	if s.used != nil && !s.used.Load() {
		s.used.Store(true)
	}
	if s.asked != nil && !s.asked.Load() {
		s.asked.Store(true)
	}
}

// ConsumeAsked reports whether the service was looked up, by [Lookup] or from what Memo
// keeps, while it had suspects and since TakeAsked was last called.
func (s *Service) ConsumeAsked() bool { return s.asked != nil && s.asked.Swap(false) }
