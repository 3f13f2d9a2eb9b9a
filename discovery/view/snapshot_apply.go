package view

import (
	"cmp"
	"reflect"
	"slices"
	"strings"

	"disc/discovery"
)

// Change is one key of the catalog that was written or deleted.
type Change struct {
	Key      discovery.Key
	Value    []byte // nil: deleted
	Created  int64  // etcd's create revision; 0 when deleted
	Modified int64  // etcd's revision of the change
	Lease    int64

	// Hold keeps a record whose deletion this is as it is shown, if it died and did not
	// leave, until it is judged. The event is an EventHeld then.
	Hold bool `json:"-"`
	// Late marks what etcd told after the snapshot had come beyond its revision: parts
	// that are watched apart do not come in one order.
	Late bool `json:"-"`
	// Suspect marks the record of a suspect, which is not in etcd any more.
	Suspect bool `json:",omitempty"`
}

// Apply returns the snapshot after changes, complete up to revision, with the
// events that they make, in the changes' order. The receiver stays as it is.
//
// A change whose value cannot be read leaves its key out, as if it were deleted, and
// its neighbours alone; each is told of in broken. The work is that of the
// services that change, not of the catalog.
func (s *Snapshot) Apply(revision int64, changes []Change) (next *Snapshot, events []Event, broken []discovery.BrokenRecord) {
	copied := *s
	next = &copied
	late := slices.ContainsFunc(changes, func(c Change) bool { return c.Late })
	if next.revision = revision; revision != s.revision {
		next.step = 0
	} else if late {
		next.step++
	}
	if len(changes) == 0 {
		return next, nil, nil
	}
	a := applier{
		revision:   revision,
		before:     s,
		services:   s.services,
		nodes:      s.nodes,
		deadAgents: findDeadAgents(changes),
	}
	for _, c := range changes {
		if err := a.applyChange(c); err != nil {
			broken = append(broken, discovery.BrokenRecord{Key: c.Key, Modified: c.Modified, Err: err})
		}
	}
	next.services, next.nodes = a.seal(), a.nodes
	switch {
	case a.servicesRevision != 0 && late:
		next.servicesRevision, next.servicesStep = next.revision, next.step
	case a.servicesRevision != 0:
		next.servicesRevision, next.servicesStep = a.servicesRevision, 0
	}
	next.nodesRevision = cmp.Or(a.nodesRevision, s.nodesRevision)
	return next, a.events, broken
}

// WithoutEmpty returns the snapshot without those of the named services that are empty.
func (s *Snapshot) WithoutEmpty(names ...string) *Snapshot {
	next := *s
	for _, name := range names {
		if service, ok := next.Service(name); ok && service.Empty() {
			next.services = next.services.without(discovery.FoldName(name))
		}
	}
	return &next
}

// applier is one Apply under way.
type applier struct {
	revision   int64
	before     *Snapshot
	services   *persistentMap[*Service]
	nodes      *persistentMap[*node]
	writing    []*Service      // those of services that may be changed: they are copies
	deadAgents map[string]bool // agents whose own record goes in this batch
	events     []Event

	servicesRevision, nodesRevision int64 // the highest among the changes; 0: none
}

// findDeadAgents collects the agents whose node record is deleted among changes: what
// they owned went with their lease.
func findDeadAgents(changes []Change) map[string]bool {
	var died map[string]bool
	for _, c := range changes {
		if c.Key.Kind == discovery.KeyNode && c.Value == nil {
			if died == nil {
				died = map[string]bool{}
			}
			died[c.Key.ID] = true
		}
	}
	return died
}

func (a *applier) applyChange(c Change) error {
	switch c.Key.Kind {
	case discovery.KeyNode:
		a.nodesRevision = max(a.nodesRevision, c.Modified)
		return a.applyNode(c)
	case discovery.KeyInstance, discovery.KeyStatic, discovery.KeyOverride:
		return a.applyEntry(c)
	case discovery.KeyLoad:
		return a.applyLoad(c)
	}
	return nil
}

// applyLoad takes over how busy an instance is. That is no change of what it is: nobody is
// told, no revision moves, and what was made of the service holds.
func (a *applier) applyLoad(c Change) error {
	service := a.writable(c.Key.Service, c.Value != nil)
	if service == nil {
		return nil
	}
	after := &mergedInstance{id: c.Key.ID}
	if before := service.instance(c.Key.ID); before != nil {
		*after = *before
	}
	err := after.applyChange(c, nil)
	after.merge()
	service.put(after)
	return err
}

func (a *applier) applyNode(c Change) error {
	key := nodeKey(c.Key.Node, c.Key.ID)
	if c.Value == nil {
		a.nodes = a.nodes.without(key)
		return nil
	}
	n, err := discovery.DecodeNode(c.Value)
	if err != nil {
		a.nodes = a.nodes.without(key)
		return err
	}
	n.Node, n.Agent = c.Key.Node, c.Key.ID // the key is what is watched and deleted
	a.nodes = a.nodes.with(key, &node{n, c.Modified})
	return nil
}

func (a *applier) applyEntry(c Change) error {
	service := a.writable(c.Key.Service, c.Value != nil)
	if service == nil {
		return nil // the deletion of what was never seen
	}
	before := service.instance(c.Key.ID)
	after := &mergedInstance{id: c.Key.ID}
	if before != nil {
		*after = *before
	}
	err := after.applyChange(c, service.similar(before))
	after.merge()
	if c.Hold && a.hold(c, before, after) {
		service.put(after)
		service.memo = nil
		return err
	}
	a.servicesRevision = max(a.servicesRevision, c.Modified)
	service.put(after)
	service.memo = nil
	if c.Modified > service.Revision {
		service.Revision, service.steps = c.Modified, 0
	} else if c.Late {
		service.steps++
	}
	a.addEvent(c, before, after)
	return err
}

// hold keeps a record that died as it was shown, and reports whether it did. What
// uncovers a static entry has not taken anything from readers.
func (a *applier) hold(c Change, before, after *mergedInstance) bool {
	if c.Value != nil || before == nil || before.entry == nil || after.entry != nil || a.reason(before, after) != ReasonExpired {
		return false
	}
	after.agent, after.entry = before.agent, before.entry
	after.missing = max(before.missing, missingHeld)
	a.events = append(a.events, Event{Revision: c.Modified, Type: EventHeld, Service: c.Key.Service, ID: c.Key.ID})
	return true
}

// writable returns a copy of a service that this Apply may change; nil if there is none
// and none is to be made.
func (a *applier) writable(name string, create bool) *Service {
	service, ok := a.services.get(name)
	switch {
	case ok && service.writable:
		return service
	case ok:
		service = &Service{Name: service.Name, Revision: service.Revision, steps: service.steps, instances: slices.Clone(service.instances), asked: service.asked, used: service.used, memo: service.memo}
		if service.Revision > a.revision {
			service.Revision, service.steps = 0, 0 // etcd was wiped or restored: its revisions begin again
		}
	case create:
		name = strings.Clone(name) // or the whole key would stay in memory
		service = newService(name)
	default:
		return nil
	}
	service.writable = true
	a.writing = append(a.writing, service)
	a.services = a.services.with(name, service)
	return service
}

// seal returns the services, none of which is changed any more.
func (a *applier) seal() *persistentMap[*Service] {
	for _, service := range a.writing {
		service.seal()
	}
	return a.services
}

// addEvent tells what a change did to the instance as it is shown.
func (a *applier) addEvent(c Change, before, after *mergedInstance) {
	var was *Entry
	if before != nil {
		was = before.entry
	}
	e := Event{Revision: c.Modified, Service: c.Key.Service, ID: c.Key.ID}
	if c.Late {
		e.Late, e.Step = a.before.revision, a.before.step+1
	}
	switch {
	case after.entry != nil:
		if was != nil && was.Revision == after.entry.Revision && reflect.DeepEqual(was, after.entry) {
			return
		}
		e.Type, e.Entry, e.Service = EventPut, after.entry, after.entry.Service
	case was != nil:
		e.Type, e.Service, e.Reason = EventDelete, was.Service, a.reason(before, after)
	default:
		return
	}
	a.events = append(a.events, e)
}

// reason tells a goodbye, a death and a removal apart. An agent's own record lies
// under the lease of what it owns: while that record is there, the lease was not what
// ended.
func (a *applier) reason(before, after *mergedInstance) Reason {
	was := before.entry
	switch {
	case was.Source == SourceStatic && before.static.Lease != 0:
		return ReasonExpired
	case was.Source == SourceStatic:
		return ReasonRemoved
	case after.agent.Instance != nil && after.agent.Leaving:
		return ReasonLeft
	case a.deadAgents[was.Owner]:
		return ReasonExpired
	}
	if _, alive := a.nodes.get(nodeKey(was.Node, was.Owner)); alive {
		return ReasonRemoved
	}
	return ReasonExpired
}
