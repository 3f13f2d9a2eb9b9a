package claim

import (
	"iter"
	"maps"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"disc/discovery"
	"disc/discovery/reflector"
)

// slots know which slots of the services that are claimed from are taken: what etcd says,
// and what this agent is about to take or has taken since.
type slots struct {
	keys discovery.Keys

	mu       sync.Mutex
	services map[string]*taken // by folded name
}

// taken are the slots of one service that are not free.
type taken struct {
	keys     map[string]int64 // with the revisions of their claims
	count    map[string]int   // how many there are of an instance
	reserved map[string]int64 // by this agent, until the watch has come to that revision; 0: being asked for
	released map[string]int64 // by this agent, at that revision, of which the watch may not have told yet
	queue    []chan struct{}  // who waits for a slot; of size one, the first is woken
}

func newTaken() *taken {
	return &taken{keys: map[string]int64{}, count: map[string]int{}, reserved: map[string]int64{}, released: map[string]int64{}}
}

func (t *taken) put(id, key string, revision int64) {
	if revision < t.released[key] {
		return
	}
	if _, ok := t.keys[key]; !ok {
		t.count[id]++
	}
	t.keys[key] = revision
}

func (t *taken) remove(id, key string) (removed bool) {
	if _, ok := t.keys[key]; !ok {
		return false
	}
	delete(t.keys, key)
	if t.count[id]--; t.count[id] == 0 {
		delete(t.count, id)
	}
	return true
}

// delete notes that a key was deleted at a revision, and reports whether that is news.
func (t *taken) delete(id, key string, revision int64) bool {
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
func (t *taken) release(id, key string, got, revision int64) {
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
func (t *taken) wake() {
	if len(t.queue) > 0 {
		signal(t.queue[0])
	}
}

// of returns what is taken of a service. s.mu is held.
func (s *slots) of(service string) *taken {
	name := discovery.FoldName(service)
	if s.services[name] == nil {
		s.services[name] = newTaken()
	}
	return s.services[name]
}

// Known implements [follow.Mirror].
func (s *slots) Known(r reflector.Range) iter.Seq2[string, int64] {
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
func (s *slots) Replace(l *reflector.Listing) error {
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
			s.of(service).put(id, key, revision)
		}
	}
	return nil
}

// Apply implements [follow.Mirror].
func (s *slots) Apply(u reflector.Update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	freed := map[*taken]bool{}
	for _, e := range u.Events {
		key := string(e.Kv.Key)
		service, id, ok := s.keys.Claimed(key)
		if !ok {
			continue
		}
		t := s.of(service)
		if e.Type == mvccpb.DELETE {
			if t.delete(id, key, e.Kv.ModRevision) {
				freed[t] = true
			}
		} else {
			t.put(id, key, e.Kv.ModRevision)
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
func (s *slots) settle(service, key string, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.of(service)
	if revision > 0 {
		t.reserved[key] = revision
		return
	}
	delete(t.reserved, key)
	t.wake()
}

// release notes that this agent has released a claim; see [taken.release].
func (s *slots) release(key string, got, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	service, id, _ := s.keys.Claimed(key)
	if t, ok := s.services[discovery.FoldName(service)]; ok {
		t.release(id, key, got, revision)
	}
}

// forget drops what is known of a service.
func (s *slots) forget(service string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.services, discovery.FoldName(service))
}
