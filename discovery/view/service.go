package view

import (
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"disc/discovery"
)

// Service is a service at one revision. It is immutable.
type Service struct {
	// Name is the service's name as its registrants spell it; as the first by id does,
	// where they differ.
	Name string
	// Revision is etcd's revision of the last change of anything under the service.
	Revision int64

	slots    []*slot  // sorted by id
	entries  []*Entry // sorted by id: the slots that are shown
	eligible []*Entry // see Answering; entries itself where it is the same
	healthy  int      // entries that a plain lookup may answer with
	leaving  int      // records that say goodbye

	registered int          // entries of agents
	steps      int64        // changes at Revision that etcd knows nothing of
	asked      *atomic.Bool // see MarkUsed; nil: no entry is suspect
	used       *atomic.Bool // see MarkUsed; shared by all versions of the service

	open bool      // an apply may change it: nobody else has seen it
	memo *sync.Map // see Memo; the next version's too where only loads have changed
}

// Index is another number after each change of the service: its revision or, after a
// change that etcd knows nothing of, one above all revisions.
func (s *Service) Index() int64 { return index(s.Revision, s.steps) }

// Entries returns the instances that are shown, sorted by id. The caller must not
// change the slice or what it points to.
func (s *Service) Entries() []*Entry { return s.entries }

// Entry returns the instance with an id, as it is shown.
func (s *Service) Entry(id string) (*Entry, bool) {
	if at := s.slot(id); at != nil && at.entry != nil {
		return at.entry, true
	}
	return nil, false
}

// Record returns an agent's record as it stands in etcd, even one that is leaving.
func (s *Service) Record(id string) (*Record, bool) {
	if at := s.slot(id); at != nil && at.stands() {
		return &Record{*at.agent.Instance, at.agent.Created, at.agent.Modified, at.agent.Lease}, true
	}
	return nil, false
}

// Stands reports whether etcd has an agent's record, one that does not say goodbye.
func (s *Service) Stands(id string) bool {
	at := s.slot(id)
	return at != nil && at.stands() && !at.agent.Leaving
}

// Incarnation returns etcd's create revision of the record that an instance is shown
// by. It stays when the record is written over, as a restarted agent does, and is
// another when the instance was gone in between. 0: etcd has no such record, or it says
// goodbye.
func (s *Service) Incarnation(id string) int64 {
	at := s.slot(id)
	switch {
	case at == nil || at.entry == nil || at.entry.Suspect:
		return 0
	case at.entry.Source == SourceStatic:
		return at.static.Created
	}
	return at.agent.Created
}

// Empty reports whether nothing of the service is left in etcd or kept. Such a service is
// remembered for a while, so that a lookup can tell it from one that never was.
func (s *Service) Empty() bool {
	return !slices.ContainsFunc(s.slots, func(at *slot) bool { return !at.bare() })
}

// Healthy returns how many instances a plain lookup may answer with.
func (s *Service) Healthy() int { return s.healthy }

// Tags returns all tags of the service's instances, sorted.
func (s *Service) Tags() discovery.Tags {
	var all discovery.Tags
	for _, e := range s.entries {
		all = append(all, e.Tags...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (s *Service) slot(id string) *slot {
	if n, ok := s.find(id); ok {
		return s.slots[n]
	}
	return nil
}

func (s *Service) find(id string) (int, bool) {
	return slices.BinarySearchFunc(s.slots, id, func(at *slot, id string) int { return strings.Compare(at.id, id) })
}

// ResolveID returns the id, as it is spelled, of an instance that is shown or leaving.
// Where no id is spelled so, it looks without regard to case, because DNS resolvers mix
// the case of the names that they ask for. It reports false if none or several match.
func (s *Service) ResolveID(id string) (string, bool) {
	if at := s.slot(id); at != nil && at.present() {
		return at.id, true
	}
	var found *slot
	for _, at := range s.slots {
		if !strings.EqualFold(at.id, id) || !at.present() {
			continue
		}
		if found != nil {
			return "", false
		}
		found = at
	}
	if found == nil {
		return "", false
	}
	return found.id, true
}

// Leaving yields the records that say goodbye and show no entry any more, sorted by id.
func (s *Service) Leaving() iter.Seq[*discovery.Instance] {
	return func(yield func(*discovery.Instance) bool) {
		if s.leaving == 0 {
			return
		}
		for _, at := range s.slots {
			if at.leaving() && !yield(at.agent.Instance) {
				return
			}
		}
	}
}

// like returns an instance that one about to be read may resemble: what it was before,
// else the last of the service.
func (s *Service) like(before *slot) *discovery.Instance {
	if before == nil && len(s.slots) > 0 {
		before = s.slots[len(s.slots)-1]
	}
	if before == nil || before.entry == nil {
		return &discovery.Instance{}
	}
	return &before.entry.Instance
}

// put replaces, adds or, when it holds nothing any more, removes a slot.
func (s *Service) put(at *slot) {
	n, ok := s.find(at.id)
	empty := at.bare() && at.load == nil
	switch {
	case ok && empty:
		s.slots = slices.Delete(s.slots, n, n+1)
	case ok:
		s.slots[n] = at
	case !empty:
		s.slots = slices.Insert(s.slots, n, at)
	}
}

// seal derives what lookups read from the slots.
func (s *Service) seal() {
	s.open = false
	if s.memo == nil {
		s.memo = new(sync.Map)
	}
	s.entries, s.healthy, s.leaving, s.registered = make([]*Entry, 0, len(s.slots)), 0, 0, 0
	suspects := false
	for _, at := range s.slots {
		switch {
		case at.entry != nil:
			s.entries = append(s.entries, at.entry)
			if at.entry.ExcludedBy(discovery.StatusHealthy) == "" {
				s.healthy++
			}
			if at.entry.Source == SourceAgent {
				s.registered++
			}
			suspects = suspects || at.entry.Suspect
		case at.leaving():
			s.leaving++
		}
	}
	s.eligible = eligible(s.entries)
	if !suspects {
		s.asked = nil
	} else if s.asked == nil {
		s.asked = new(atomic.Bool)
	}
	if len(s.entries) > 0 {
		s.Name = s.entries[0].Service
	}
}

// stepBits is how far a step is shifted in an index: above any revision.
const stepBits = 40

// index makes one number of a revision and a step that is another for each pair; the
// revision itself while there is no step.
func index(revision, step int64) int64 { return revision + step<<stepBits }

// ConsumeUsed reports whether the service was looked up, by [Lookup] or from what Memo
// keeps, since TakeUsed was last called.
func (s *Service) ConsumeUsed() bool { return s.used != nil && s.used.Load() && s.used.Swap(false) }

// newService returns a service without instances.
func newService(name string) *Service {
	return &Service{Name: name, used: new(atomic.Bool), memo: new(sync.Map)}
}
