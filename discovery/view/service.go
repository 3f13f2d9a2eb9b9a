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

	instances []*mergedInstance // sorted by id
	entries   []*Entry          // sorted by id: the slots that are shown
	eligible  []*Entry          // see Answering; entries itself where it is the same
	healthy   int               // entries that a plain lookup may answer with
	leaving   int               // records that say goodbye

	registered int          // entries of agents
	steps      int64        // changes at Revision that etcd knows nothing of
	asked      *atomic.Bool // see MarkUsed; nil: no entry is suspect
	used       *atomic.Bool // see MarkUsed; shared by all versions of the service

	writable bool      // an apply may change it: nobody else has seen it
	memo     *sync.Map // see Memo; the next version's too where only loads have changed
}

// Index is another number after each change of the service: its revision or, after a
// change that etcd knows nothing of, one above all revisions.
func (s *Service) Index() int64 { return index(s.Revision, s.steps) }

// Entries returns the instances that are shown, sorted by id. The caller must not
// change the slice or what it points to.
func (s *Service) Entries() []*Entry { return s.entries }

// Entry returns the instance with an id, as it is shown.
func (s *Service) Entry(id string) (*Entry, bool) {
	if m := s.instance(id); m != nil && m.entry != nil {
		return m.entry, true
	}
	return nil, false
}

// Record returns an agent's record as it stands in etcd, even one that is leaving.
func (s *Service) Record(id string) (*Record, bool) {
	if m := s.instance(id); m != nil && m.inEtcd() {
		return &Record{*m.agent.Instance, m.agent.Created, m.agent.Modified, m.agent.Lease}, true
	}
	return nil, false
}

// HasLiveRecord reports whether etcd has an agent's record, one that does not say goodbye.
func (s *Service) HasLiveRecord(id string) bool {
	m := s.instance(id)
	return m != nil && m.inEtcd() && !m.agent.Leaving
}

// Incarnation returns etcd's create revision of the record that an instance is shown
// by. It stays when the record is written over, as a restarted agent does, and is
// another when the instance was gone in between. 0: etcd has no such record, or it says
// goodbye.
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

// Empty reports whether nothing of the service is left in etcd or kept. Such a service is
// remembered for a while, so that a lookup can tell it from one that never was.
func (s *Service) Empty() bool {
	return !slices.ContainsFunc(s.instances, func(m *mergedInstance) bool { return !m.empty() })
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

func (s *Service) instance(id string) *mergedInstance {
	if n, ok := s.search(id); ok {
		return s.instances[n]
	}
	return nil
}

func (s *Service) search(id string) (int, bool) {
	return slices.BinarySearchFunc(s.instances, id, func(m *mergedInstance, id string) int { return strings.Compare(m.id, id) })
}

// ResolveID returns the id, as it is spelled, of an instance that is shown or leaving.
// Where no id is spelled so, it looks without regard to case, because DNS resolvers mix
// the case of the names that they ask for. It reports false if none or several match.
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

// Leaving yields the records that say goodbye and show no entry any more, sorted by id.
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

// similar returns an instance that one about to be read may resemble: what it was before,
// else the last of the service.
func (s *Service) similar(before *mergedInstance) *discovery.Instance {
	if before == nil && len(s.instances) > 0 {
		before = s.instances[len(s.instances)-1]
	}
	if before == nil || before.entry == nil {
		return &discovery.Instance{}
	}
	return &before.entry.Instance
}

// put replaces, adds or, when it holds nothing any more, removes a slot.
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

// seal derives what lookups read from the slots.
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
