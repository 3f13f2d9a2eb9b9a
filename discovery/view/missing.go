package view

import (
	"slices"

	"disc/discovery"
)

// missingState is the state of an agent's record that is gone from etcd but not yet from
// the snapshot. The snapshot retains records that expired for a while: when many expire
// at once, the cause is rather etcd or the network than the instances.
type missingState uint8

const (
	notMissing     missingState = iota // etcd has the record, or there is none
	missingHeld                        // gone from etcd; shown as before until a Decision
	missingSuspect                     // gone from etcd, shown as suspect
)

// Decision decides about an instance whose record is missing.
type Decision struct {
	Service, ID string
	Suspect     bool // show it as suspect; else drop it
}

// Missing names an instance that is shown although its record is gone from etcd.
type Missing struct {
	Service string // folded
	ID      string
	Suspect bool // else it is held: shown as before, until a Decision
}

// Resolve returns the snapshot after decisions about missing records, and the events of
// the changes. It ignores a record that is back in etcd or was dropped meanwhile. The
// changes are one step at the snapshot's revision.
func (s *Snapshot) Resolve(decisions []Decision) (next *Snapshot, events []Event) {
	if len(decisions) == 0 {
		return s, nil
	}
	a := applier{revision: s.revision, before: s, services: s.services}
	for _, v := range decisions {
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

// advance gives the service another index: the snapshot's revision or, if it has that
// already, one more step.
func (s *Service) advance(revision int64) {
	if revision > s.Revision {
		s.Revision, s.steps = revision, 0
	} else {
		s.steps++
	}
}

// missingState returns whether the record is missing; a nil instance is not.
func (m *mergedInstance) missingState() missingState {
	if m == nil {
		return notMissing
	}
	return m.missing
}

// RetainMissing returns the snapshot with the instances of agents that other shows and s
// lacks, as suspects or held, and lists them.
func (s *Snapshot) RetainMissing(other *Snapshot, suspects bool) (next *Snapshot, retained []Missing) {
	a := applier{revision: s.revision, before: s, services: s.services}
	as := missingHeld
	if suspects {
		as = missingSuspect
	}
	for key, service := range other.services.all() {
		for _, m := range service.instances {
			if m.entry != nil && m.entry.Source == SourceAgent && a.retain(key, *m, as) {
				retained = append(retained, Missing{key, m.id, suspects})
			}
		}
	}
	copied := *s
	next = &copied
	next.services = a.seal()
	return next, retained
}

// retain adds the instance of another snapshot, unless this one has it, and reports whether
// it did.
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

// Missing reports whether an instance is shown although its record is gone from etcd, and
// how it is shown.
func (s *Snapshot) Missing(service, id string) (Missing, bool) {
	of, ok := s.Service(service)
	if !ok {
		return Missing{}, false
	}
	how := of.instance(id).missingState()
	return Missing{discovery.FoldName(service), id, how == missingSuspect}, how != notMissing
}

// Suspects returns the suspect entries, sorted by id.
func (s *Service) Suspects() []*Entry {
	if s.asked == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(s.entries), func(e *Entry) bool { return !e.Suspect })
}

// Registered returns the number of instances of agents that are shown, missing ones
// included.
func (s *Service) Registered() int { return s.registered }

// MarkUsed marks the service as looked up; see [Service.ConsumeUsed] and
// [Service.ConsumeAsked].
func (s *Service) MarkUsed() {
	if s.used != nil && !s.used.Load() {
		s.used.Store(true)
	}
	if s.asked != nil && !s.asked.Load() {
		s.asked.Store(true)
	}
}

// ConsumeAsked reports whether the service was looked up, see MarkUsed, while it had
// suspects and since the last call of ConsumeAsked.
func (s *Service) ConsumeAsked() bool { return s.asked != nil && s.asked.Swap(false) }
