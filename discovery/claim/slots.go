package claim

import (
	"iter"
	"maps"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"disc/discovery"
	"disc/discovery/reflector"
)

// slotStore know which slots of the services that are claimed from are taken: what etcd says,
// and what this agent is about to take or has taken since.
type slotStore struct {
	keys discovery.Keys

	mu       sync.Mutex
	services map[string]*occupancy // by folded name
}

// occupancy are the slots of one service that are not free.
type occupancy struct {
	keys     map[string]int64 // with the revisions of their claims
	count    map[string]int   // how many there are of an instance
	reserved map[string]int64 // by this agent, until the watch has come to that revision; 0: being asked for
	released map[string]int64 // by this agent, at that revision, of which the watch may not have told yet
	waiters  []chan struct{}  // who waits for a slot; of size one, the first is woken
}

func newOccupancy() *occupancy {
	return &occupancy{keys: map[string]int64{}, count: map[string]int{}, reserved: map[string]int64{}, released: map[string]int64{}}
}

func (t *occupancy) add(id, key string, revision int64) {
	if revision < t.released[key] {
		return
	}
	if _, ok := t.keys[key]; !ok {
		t.count[id]++
	}
	t.keys[key] = revision
}

func (t *occupancy) remove(id, key string) (removed bool) {
	if _, ok := t.keys[key]; !ok {
		return false
	}
	delete(t.keys, key)
	if t.count[id]--; t.count[id] == 0 {
		delete(t.count, id)
	}
	return true
}

// applyDelete notes that a key was deleted at a revision, and reports whether that is news.
func (t *occupancy) applyDelete(id, key string, revision int64) bool {
	released := t.released[key]
	if revision < released {
		return false
	}
	delete(t.released, key)
	t.remove(id, key)
	return revision > released
}

// release notes that this agent has released, at a revision, the claim that it had got
// at another: the slot is free at once, and not only when the watch tells so.
func (t *occupancy) release(id, key string, got, revision int64) {
	t.released[key] = revision
	awaited := t.reserved[key] == got
	if awaited {
		delete(t.reserved, key)
	}
	if known := t.keys[key] < revision && t.remove(id, key); known || awaited {
		t.wake()
	}
}

// wake wakes who has waited longest: a slot may have become free.
func (t *occupancy) wake() {
	if len(t.waiters) > 0 {
		signal(t.waiters[0])
	}
}

// service returns what is taken of a service. s.mu is held.
func (s *slotStore) service(service string) *occupancy {
	name := discovery.FoldName(service)
	if s.services[name] == nil {
		s.services[name] = newOccupancy()
	}
	return s.services[name]
}

// Known implements [follow.Mirror].
func (s *slotStore) Known(r reflector.Range) iter.Seq2[string, int64] {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := map[string]int64{}
	for name, t := range s.services {
		if prefix := s.keys.ClaimsOf(name); prefix >= r.From && prefix < r.To {
			maps.Copy(known, t.keys)
		}
	}
	return maps.All(known)
}

// Replace implements [follow.Mirror].
func (s *slotStore) Replace(l *reflector.Listing) error {
	found := map[string]int64{}
	_, err := l.Read(func(page []*mvccpb.KeyValue) {
		for _, kv := range page {
			found[string(kv.Key)] = kv.ModRevision
		}
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, t := range s.services {
		if prefix := s.keys.ClaimsOf(name); prefix < l.From || prefix >= l.To {
			continue
		}
		t.keys, t.count, t.released = map[string]int64{}, map[string]int{}, map[string]int64{}
		t.wake()
	}
	for key, revision := range found {
		if service, id, ok := s.keys.Claimed(key); ok {
			s.service(service).add(id, key, revision)
		}
	}
	return nil
}

// Apply implements [follow.Mirror].
func (s *slotStore) Apply(u reflector.Update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	freed := map[*occupancy]bool{}
	for _, e := range u.Events {
		key := string(e.Kv.Key)
		service, id, ok := s.keys.Claimed(key)
		if !ok {
			continue
		}
		t := s.service(service)
		if e.Type == mvccpb.DELETE {
			if t.applyDelete(id, key, e.Kv.ModRevision) {
				freed[t] = true
			}
		} else {
			t.add(id, key, e.Kv.ModRevision)
		}
	}
	for _, t := range s.services {
		for key, revision := range t.reserved {
			if revision > 0 && revision <= u.Revision {
				delete(t.reserved, key)
			}
		}
	}
	for t := range freed {
		t.wake()
	}
}

// settle turns a reservation into what etcd has confirmed at a revision, or ends it: 0.
func (s *slotStore) settle(service, key string, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.service(service)
	if revision > 0 {
		t.reserved[key] = revision
		return
	}
	delete(t.reserved, key)
	t.wake()
}

// release notes that this agent has released a claim; see [occupancy.release].
func (s *slotStore) release(key string, got, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	service, id, _ := s.keys.Claimed(key)
	if t, ok := s.services[discovery.FoldName(service)]; ok {
		t.release(id, key, got, revision)
	}
}

// drop drops what is known of a service.
func (s *slotStore) drop(service string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.services, discovery.FoldName(service))
}
