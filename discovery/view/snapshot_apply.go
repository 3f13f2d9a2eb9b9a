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

	// Hold retains the record that this change deletes, if it expired, as it is shown until
	// a Decision; the event is an EventHeld then.
	Hold bool `json:"-"`
	// Late marks a change that arrived after the snapshot had passed its revision, which
	// happens because scopes that are watched apart are not ordered.
	Late bool `json:"-"`
	// Apart marks a change that may be of a scope that is watched apart from the agents' own
	// records, which may then be older or newer than the change.
	Apart bool `json:"-"`
	// Suspect marks the record of a suspect, which is no longer in etcd.
	Suspect bool `json:",omitempty"`
}

// Apply returns the snapshot after changes, complete up to revision, and their events, in
// the order of the changes. The receiver is unchanged.
//
// A change whose value cannot be decoded counts as a deletion of its key and is listed in
// broken. The cost depends on the size of the changed services, not of the catalog.
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
		revision:    revision,
		before:      s,
		services:    s.services,
		nodes:       s.nodes,
		agentLeases: findAgentLeases(changes),
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

// WithoutEmpty returns the snapshot without the named services, as far as they are empty.
func (s *Snapshot) WithoutEmpty(names ...string) *Snapshot {
	next := *s
	for _, name := range names {
		if service, ok := next.Service(name); ok && service.Empty() {
			next.services = next.services.without(discovery.FoldName(name))
		}
	}
	return &next
}

// applier collects the changes of one Apply, or of another method that derives a snapshot.
type applier struct {
	revision    int64
	before      *Snapshot
	services    *persistentMap[*Service]
	nodes       *persistentMap[*node]
	writing     []*Service       // the services that are writable copies
	agentLeases map[string]int64 // of the agents' own records that change, by nodeKey, in the end
	events      []Event

	servicesRevision, nodesRevision int64 // the highest among the changes; 0: none
}

// findAgentLeases returns the leases of the agents' own records among the changes, as they are
// in the end; 0: the record is deleted.
func findAgentLeases(changes []Change) map[string]int64 {
	var leases map[string]int64
	for _, c := range changes {
		if c.Key.Kind == discovery.KeyNode {
			if leases == nil {
				leases = map[string]int64{}
			}
			leases[nodeKey(c.Key.Node, c.Key.ID)] = c.Lease
		}
	}
	return leases
}

// agentLease returns the lease of an agent's own record after the changes; 0: there is none.
func (a *applier) agentLease(node, agent string) int64 {
	key := nodeKey(node, agent)
	if lease, changed := a.agentLeases[key]; changed {
		return lease
	}
	if n, ok := a.nodes.get(key); ok {
		return n.lease
	}
	return 0
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

// applyLoad applies a load report. It makes no event and no new revision, and the service's
// memo stays valid.
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
	n.Node, n.Agent = c.Key.Node, c.Key.ID // the key decides: a deletion has no more than that
	a.nodes = a.nodes.with(key, &node{n, c.Modified, c.Lease})
	return nil
}

func (a *applier) applyEntry(c Change) error {
	service := a.writable(c.Key.Service, c.Value != nil)
	if service == nil {
		return nil // the deletion of an unknown key
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

// hold retains the record before a deletion if it expired, and reports whether it did. It
// does not where a static entry takes the record's place.
func (a *applier) hold(c Change, before, after *mergedInstance) bool {
	if c.Value != nil || before == nil || before.entry == nil || after.entry != nil || a.reason(c, before, after) != ReasonExpired {
		return false
	}
	after.agent, after.entry = before.agent, before.entry
	after.missing = max(before.missing, missingHeld)
	a.events = append(a.events, Event{Revision: c.Modified, Type: EventHeld, Service: c.Key.Service, ID: c.Key.ID})
	return true
}

// writable returns a copy of a service that the applier may change. Without such a service,
// it makes one if create is true, else it returns nil.
func (a *applier) writable(name string, create bool) *Service {
	service, ok := a.services.get(name)
	switch {
	case ok && service.writable:
		return service
	case ok:
		service = &Service{Name: service.Name, Revision: service.Revision, steps: service.steps, instances: slices.Clone(service.instances), asked: service.asked, used: service.used, memo: service.memo}
		if service.Revision > a.revision {
			service.Revision, service.steps = 0, 0 // etcd lost its data: revisions start again
		}
	case create:
		name = strings.Clone(name) // or the name would retain the memory of the whole key
		service = newService(name)
	default:
		return nil
	}
	service.writable = true
	a.writing = append(a.writing, service)
	a.services = a.services.with(name, service)
	return service
}

// seal ends the changes and returns the services.
func (a *applier) seal() *persistentMap[*Service] {
	for _, service := range a.writing {
		service.seal()
	}
	return a.services
}

// addEvent adds the event of a change, if readers see one.
func (a *applier) addEvent(c Change, before, after *mergedInstance) {
	var was *Entry
	if before != nil {
		was = before.entry
	}
	e := Event{Revision: c.Modified, Service: c.Key.Service, ID: c.Key.ID}
	if c.Late {
		e.LateAt, e.Step = a.before.revision, a.before.step+1
	}
	switch {
	case after.entry != nil:
		if was != nil && was.Revision == after.entry.Revision && reflect.DeepEqual(was, after.entry) {
			return
		}
		e.Type, e.Entry, e.Service = EventPut, after.entry, after.entry.Service
	case was != nil:
		e.Type, e.Service, e.Reason = EventDelete, was.Service, a.reason(c, before, after)
	default:
		return
	}
	a.events = append(a.events, e)
}

// reason returns why an instance is gone. While the agent's own record is there under the lease
// that the instance's record had, that lease has not ended, and somebody deleted the record. An
// agent that is back has written its own record under another lease, before or after those of
// its instances: it tells nothing about those that are missing yet.
func (a *applier) reason(c Change, before, after *mergedInstance) Reason {
	was := before.entry
	switch {
	case was.Source == SourceStatic && before.static.Lease != 0:
		return ReasonExpired
	case was.Source == SourceStatic:
		return ReasonRemoved
	case after.agent.Instance != nil && after.agent.Leaving:
		return ReasonLeft
	case before.agent.Lease == 0:
		return ReasonRemoved // it cannot expire
	case c.Apart || before.agent.Lease != a.agentLease(was.Node, was.Owner):
		return ReasonExpired
	}
	return ReasonRemoved
}
