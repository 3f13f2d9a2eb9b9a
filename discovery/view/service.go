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
	// Name is the service's name in the spelling of the first instance by id.
	Name string
	// Revision is etcd's revision of the last change of a key of the service.
	Revision int64

	instances []*mergedInstance // sorted by id
	entries   []*Entry          // sorted by id: those of the instances that are shown
	eligible  []*Entry          // see Eligible; the same slice as entries if it has the same elements
	healthy   int               // entries that are healthy
	leaving   int               // tombstones

	registered int          // entries of agents
	steps      int64        // changes at Revision that the view made by itself
	asked      *atomic.Bool // see MarkUsed; nil: no entry is suspect
	used       *atomic.Bool // see MarkUsed; shared by all versions of the service

	writable bool      // an applier may change it: no reader has it yet
	memo     *sync.Map // see Memo; shared with the next version if only loads change
}

// Index returns another number after each change of the service: its revision or, after a
// change that the view made by itself, a number above all revisions.
func (s *Service) Index() int64 { return index(s.Revision, s.steps) }

// Entries returns the instances that are shown, sorted by id. The caller must not change
// the slice or its entries.
func (s *Service) Entries() []*Entry { return s.entries }

// Entry returns the instance of an id as readers see it.
func (s *Service) Entry(id string) (*Entry, bool) {
	if m := s.instance(id); m != nil && m.entry != nil {
		return m.entry, true
	}
	return nil, false
}

// Record returns an agent's record as etcd stores it, even a tombstone.
func (s *Service) Record(id string) (*Record, bool) {
	if m := s.instance(id); m != nil && m.inEtcd() {
		return &Record{*m.agent.Instance, m.agent.Created, m.agent.Modified, m.agent.Lease}, true
	}
	return nil, false
}

// HasLiveRecord reports whether etcd has an agent's record that is not a tombstone.
func (s *Service) HasLiveRecord(id string) bool {
	m := s.instance(id)
	return m != nil && m.inEtcd() && !m.agent.Leaving
}

// Incarnation returns etcd's create revision of the record or static entry behind an
// instance. It stays the same when the record is overwritten, as by a restarted agent,
// and differs when the instance was gone in between. 0: the instance is not shown, or is
// a suspect.
func (s *Service) Incarnation(id string) int64 {
	m := s.instance(id)
	switch {
	case m == nil || m.entry == nil || m.entry.Suspect:
		return 0
	case m.entry.Source == SourceStatic:
		return m.static.Created
	}
	return m.agent.Created
}

// Empty reports whether the service has nothing in etcd, except load reports, and nothing
// that is retained. The catalog remembers an empty service for a while, so that a lookup
// can tell it from one that never existed.
func (s *Service) Empty() bool {
	return !slices.ContainsFunc(s.instances, func(m *mergedInstance) bool { return !m.empty() })
}

// Healthy returns the number of healthy entries.
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

func (s *Service) instance(id string) *mergedInstance {
	if n, ok := s.search(id); ok {
		return s.instances[n]
	}
	return nil
}

func (s *Service) search(id string) (int, bool) {
	return slices.BinarySearchFunc(s.instances, id, func(m *mergedInstance, id string) int { return strings.Compare(m.id, id) })
}

// ResolveID returns the id of an instance that is shown or has a tombstone. If there is no
// such id, it compares without regard to case, because DNS resolvers mix the case of
// names. It returns false if no instance matches, or several do.
func (s *Service) ResolveID(id string) (string, bool) {
	if m := s.instance(id); m != nil && m.present() {
		return m.id, true
	}
	var found *mergedInstance
	for _, m := range s.instances {
		if !strings.EqualFold(m.id, id) || !m.present() {
			continue
		}
		if found != nil {
			return "", false
		}
		found = m
	}
	if found == nil {
		return "", false
	}
	return found.id, true
}

// Leaving yields the tombstones of instances that are not shown, sorted by id.
func (s *Service) Leaving() iter.Seq[*discovery.Instance] {
	return func(yield func(*discovery.Instance) bool) {
		if s.leaving == 0 {
			return
		}
		for _, m := range s.instances {
			if m.leaving() && !yield(m.agent.Instance) {
				return
			}
		}
	}
}

// similar returns an instance that resembles one about to be decoded: its previous state,
// else the last instance of the service.
func (s *Service) similar(before *mergedInstance) *discovery.Instance {
	if before == nil && len(s.instances) > 0 {
		before = s.instances[len(s.instances)-1]
	}
	if before == nil || before.entry == nil {
		return &discovery.Instance{}
	}
	return &before.entry.Instance
}

// put replaces or adds an instance, or removes one that has nothing in etcd any more.
func (s *Service) put(m *mergedInstance) {
	n, ok := s.search(m.id)
	empty := m.empty() && m.load == nil
	switch {
	case ok && empty:
		s.instances = slices.Delete(s.instances, n, n+1)
	case ok:
		s.instances[n] = m
	case !empty:
		s.instances = slices.Insert(s.instances, n, m)
	}
}

// seal derives the fields for lookups from the instances, and ends changes of the service.
func (s *Service) seal() {
	s.writable = false
	if s.memo == nil {
		s.memo = new(sync.Map)
	}
	s.entries, s.healthy, s.leaving, s.registered = make([]*Entry, 0, len(s.instances)), 0, 0, 0
	suspects := false
	for _, m := range s.instances {
		switch {
		case m.entry != nil:
			s.entries = append(s.entries, m.entry)
			if m.entry.ExcludedBy(discovery.StatusHealthy) == "" {
				s.healthy++
			}
			if m.entry.Source == SourceAgent {
				s.registered++
			}
			suspects = suspects || m.entry.Suspect
		case m.leaving():
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

// stepBits is the number of bits below the step in an index: more than revisions have.
const stepBits = 40

// MaxRevision is the highest revision of etcd that an index can have.
const MaxRevision = 1<<stepBits - 1

// index returns one number for each pair of revision and step: the revision itself at step
// 0.
func index(revision, step int64) int64 { return revision + step<<stepBits }

// ConsumeUsed reports whether the service was looked up, see MarkUsed, since the last call
// of ConsumeUsed.
func (s *Service) ConsumeUsed() bool { return s.used != nil && s.used.Load() && s.used.Swap(false) }

// newService returns a service without instances.
func newService(name string) *Service {
	return &Service{Name: name, used: new(atomic.Bool), memo: new(sync.Map)}
}
