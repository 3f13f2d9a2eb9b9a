package discovery

import (
	"fmt"
	"reflect"
	"slices"

	iradix "github.com/hashicorp/go-immutable-radix/v2"
)

// Change is one key of the catalog that was written or deleted.
type Change struct {
	Key      Key
	Value    []byte // nil: deleted
	Created  int64  // etcd's create revision; 0 when deleted
	Modified int64  // etcd's revision of the change
	Lease    int64
}

// EventType is what happened to an instance.
type EventType string

// The types of events.
const (
	EventPut    EventType = "put"
	EventDelete EventType = "delete"
)

// Reason is why an instance went.
type Reason string

// The reasons.
const (
	ReasonLeft    Reason = "left"    // its agent deregistered it
	ReasonExpired Reason = "expired" // its lease ran out: a death
	ReasonRemoved Reason = "removed" // somebody deleted it
)

// Event is a change of one instance as it is shown.
type Event struct {
	Revision int64
	Type     EventType
	Service  string
	ID       string
	Reason   Reason // of an EventDelete
	Entry    *Entry // of an EventPut
}

// Apply returns the snapshot after changes, complete up to revision, with the
// events that they make, in the changes' order. The receiver stays as it is.
//
// A change whose value cannot be read leaves its key out, as if it were deleted, and
// its neighbours alone; each gives an error in broken. The work is that of the
// services that change, not of the catalog.
func (s *Snapshot) Apply(revision int64, changes []Change) (next *Snapshot, events []Event, broken []error) {
	next = &Snapshot{revision: revision, epoch: s.epoch, services: s.services, nodes: s.nodes}
	if len(changes) == 0 {
		return next, nil, nil
	}
	a := apply{
		services: s.services.Txn(),
		nodes:    s.nodes.Txn(),
		touched:  map[string]*Service{},
		died:     diedWith(changes),
	}
	for _, c := range changes {
		if err := a.change(c); err != nil {
			broken = append(broken, fmt.Errorf("%s %s/%s at revision %d: %w", c.Key.Kind, c.Key.owner(), c.Key.ID, c.Modified, err))
		}
	}
	for name, service := range a.touched {
		service.seal()
		a.services.Insert([]byte(name), service)
	}
	next.services, next.nodes = a.services.Commit(), a.nodes.Commit()
	return next, a.events, broken
}

// Forget returns the snapshot without those of the named services that are empty.
func (s *Snapshot) Forget(names ...string) *Snapshot {
	txn := s.services.Txn()
	for _, name := range names {
		key := []byte(FoldName(name))
		if service, ok := txn.Get(key); ok && service.Empty() {
			txn.Delete(key)
		}
	}
	next := *s
	next.services = txn.Commit()
	return &next
}

// apply is one Apply under way.
type apply struct {
	services *iradix.Txn[*Service]
	nodes    *iradix.Txn[*Node]
	touched  map[string]*Service // copies that may be changed, by folded name
	died     map[string]bool     // agents whose own record goes in this batch
	events   []Event
}

// diedWith collects the agents whose node record is deleted among changes: what
// they owned went with their lease.
func diedWith(changes []Change) map[string]bool {
	var died map[string]bool
	for _, c := range changes {
		if c.Key.Kind == KeyNode && c.Value == nil {
			if died == nil {
				died = map[string]bool{}
			}
			died[c.Key.ID] = true
		}
	}
	return died
}

func (a *apply) change(c Change) error {
	switch c.Key.Kind {
	case KeyNode:
		return a.node(c)
	case KeyInstance, KeyStatic, KeyOverride:
		return a.entry(c)
	}
	return nil
}

func (a *apply) node(c Change) error {
	key := []byte(c.Key.Node + "/" + c.Key.ID)
	if c.Value == nil {
		a.nodes.Delete(key)
		return nil
	}
	n, err := DecodeNode(c.Value)
	if err != nil {
		a.nodes.Delete(key)
		return err
	}
	n.Node, n.Agent = c.Key.Node, c.Key.ID
	a.nodes.Insert(key, &n)
	return nil
}

func (a *apply) entry(c Change) error {
	service := a.touch(c.Key.Service, c.Value != nil)
	if service == nil {
		return nil // the deletion of what was never seen
	}
	at, err := service.own(c.Key.ID).with(c)
	before := service.slot(c.Key.ID)
	at.merge()
	service.put(at)
	service.Revision = max(service.Revision, c.Modified)
	if at.entry != nil {
		service.Name = at.entry.Service
	}
	a.event(c, before, at)
	return err
}

// touch returns a copy of a service that this Apply may change; nil if there is none
// and none is to be made.
func (a *apply) touch(name string, create bool) *Service {
	if service, ok := a.touched[name]; ok {
		return service
	}
	service, ok := a.services.Get([]byte(name))
	switch {
	case ok:
		c := *service
		c.slots = slices.Clone(service.slots)
		service = &c
	case create:
		service = &Service{Name: name}
	default:
		return nil
	}
	a.touched[name] = service
	return service
}

// event tells what a change did to the instance as it is shown.
func (a *apply) event(c Change, before, after *slot) {
	var was *Entry
	if before != nil {
		was = before.entry
	}
	e := Event{Revision: c.Modified, Service: c.Key.Service, ID: c.Key.ID}
	switch {
	case after.entry != nil:
		if was != nil && reflect.DeepEqual(*was, *after.entry) {
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
func (a *apply) reason(before, after *slot) Reason {
	was := before.entry
	switch {
	case after.agent != nil && after.agent.Leaving:
		return ReasonLeft
	case was.Source == SourceStatic && before.static.Lease != 0:
		return ReasonExpired
	case was.Source == SourceStatic:
		return ReasonRemoved
	case a.died[was.Owner]:
		return ReasonExpired
	}
	if _, alive := a.nodes.Get([]byte(was.Node + "/" + was.Owner)); alive {
		return ReasonRemoved
	}
	return ReasonExpired
}

// own returns a copy of the slot of an id, or a new one.
func (s *Service) own(id string) *slot {
	if at := s.slot(id); at != nil {
		c := *at
		return &c
	}
	return &slot{id: id}
}

// put replaces, adds or, when it holds nothing any more, removes a slot.
func (s *Service) put(at *slot) {
	n, ok := s.find(at.id)
	empty := at.agent == nil && at.static == nil && at.override == nil
	switch {
	case ok && empty:
		s.slots = slices.Delete(s.slots, n, n+1)
	case ok:
		s.slots[n] = at
	case !empty:
		s.slots = slices.Insert(s.slots, n, at)
	}
}

// seal derives what lookups read.
func (s *Service) seal() {
	s.entries, s.leaving = make([]*Entry, 0, len(s.slots)), 0
	for _, at := range s.slots {
		if at.entry != nil {
			s.entries = append(s.entries, at.entry)
		} else if at.agent != nil && at.agent.Leaving {
			s.leaving++
		}
	}
}

// with returns the slot after a change of one of its keys.
func (at *slot) with(c Change) (*slot, error) {
	if c.Key.Kind == KeyOverride {
		at.override = nil
		if c.Value == nil {
			return at, nil
		}
		o, err := DecodeOverride(c.Value)
		if err == nil {
			at.override = &override{o, c.Modified}
		}
		return at, err
	}
	field := &at.agent
	if c.Key.Kind == KeyStatic {
		field = &at.static
	}
	*field = nil
	if c.Value == nil {
		return at, nil
	}
	i, err := DecodeInstance(c.Value)
	if err == nil && (FoldName(i.Service) != c.Key.Service || i.ID != c.Key.ID) {
		err = Errorf(ErrInvalid, "the record says %s/%s: it lies under another's key", i.Service, i.ID)
	}
	if err == nil {
		*field = &Record{Instance: i, Created: c.Created, Modified: c.Modified, Lease: c.Lease}
	}
	return at, err
}

// merge derives the entry: the agent's record wins over the static entry, and the
// override is laid over either. An agent's record that is leaving uncovers the
// static entry.
func (at *slot) merge() {
	at.entry = nil
	base, source := at.agent, SourceAgent
	if base == nil || base.Leaving {
		base, source = at.static, SourceStatic
	}
	if base == nil {
		return
	}
	e := Entry{Instance: base.Instance, State: Up, Source: source, Revision: base.Modified}
	if at.override != nil {
		e.Instance, e.State = at.override.Apply(base.Instance)
		e.Override = &at.override.Override
		e.Revision = max(e.Revision, at.override.modified)
	}
	if source == SourceAgent && at.static != nil {
		e.Shadowed = &at.static.Instance
	}
	at.entry = &e
}

func (k KeyKind) String() string {
	return [...]string{"key", "record", "static entry", "override", "node"}[k]
}

// owner is the service or node under which a key lies.
func (k Key) owner() string {
	if k.Kind == KeyNode {
		return k.Node
	}
	return k.Service
}
