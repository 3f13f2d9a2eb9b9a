package claim

import (
	"iter"
	"maps"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"disc/discovery"
	"disc/discovery/reflector"
	"disc/discovery/retry"
)

// slotStore knows which slots are not free, of the services that are claimed from. It is a
// [reflector.Store] of the claims in etcd, and adds what this agent has done since or is
// about to do.
type slotStore struct {
	keys discovery.Keys

	mu       sync.Mutex
	services map[string]*occupancy // by folded name
}

func newSlotStore(keys discovery.Keys) *slotStore {
	return &slotStore{keys: keys, services: map[string]*occupancy{}}
}

// occupancy is the set of slots of one service that are not free, and the queue of the
// callers that wait for one.
type occupancy struct {
	keys     map[string]int64 // of claims in etcd, with their revisions
	count    map[string]int   // claims in etcd, by instance
	reserved map[string]int64 // slots that this agent claims: 0 while it asks etcd, then the claim's revision until the watch has reached it
	released map[string]int64 // slots that this agent has released, with the revision, until the watch shows it
	waiters  []retry.Signal   // of waiting callers; the first is woken
}

func newOccupancy() *occupancy {
	return &occupancy{keys: map[string]int64{}, count: map[string]int{}, reserved: map[string]int64{}, released: map[string]int64{}}
}

func (o *occupancy) isReserved(key string) bool {
	_, ok := o.reserved[key]
	return ok
}

// add adds a claim that etcd has had since a revision, unless it was released later.
func (o *occupancy) add(id, key string, revision int64) {
	if revision < o.released[key] {
		return
	}
	if _, ok := o.keys[key]; !ok {
		o.count[id]++
	}
	o.keys[key] = revision
}

// remove removes a claim, and reports whether there was one.
func (o *occupancy) remove(id, key string) (removed bool) {
	if _, ok := o.keys[key]; !ok {
		return false
	}
	delete(o.keys, key)
	if o.count[id]--; o.count[id] == 0 {
		delete(o.count, id)
	}
	return true
}

// applyDelete applies the deletion of a key at a revision, and reports whether a slot became
// free that was not released by this agent.
func (o *occupancy) applyDelete(id, key string, revision int64) bool {
	released := o.released[key]
	if revision < released {
		return false
	}
	delete(o.released, key)
	o.remove(id, key)
	return revision > released
}

// release frees a slot at once, before the watch shows it: this agent has deleted, at
// revision, the claim that was created at revision created.
func (o *occupancy) release(id, key string, created, revision int64) {
	o.released[key] = revision
	reserved := o.reserved[key] == created
	if reserved {
		delete(o.reserved, key)
	}
	if removed := o.keys[key] < revision && o.remove(id, key); removed || reserved {
		o.wake()
	}
}

// wake wakes the caller that has waited longest, because a slot may have become free.
func (o *occupancy) wake() {
	if len(o.waiters) > 0 {
		o.waiters[0].Notify()
	}
}

// forget discards what etcd has shown, and wakes the caller that has waited longest.
func (o *occupancy) forget() {
	o.keys, o.count, o.released = map[string]int64{}, map[string]int{}, map[string]int64{}
	o.wake()
}

// service returns the occupancy of a service. s.mu is held.
func (s *slotStore) service(service string) *occupancy {
	name := discovery.FoldName(service)
	if s.services[name] == nil {
		s.services[name] = newOccupancy()
	}
	return s.services[name]
}

// Known implements [reflector.Store].
func (s *slotStore) Known(r reflector.Range) iter.Seq2[string, int64] {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := map[string]int64{}
	for name, o := range s.services {
		if prefix := s.keys.ClaimsOf(name); prefix >= r.From && prefix < r.To {
			maps.Copy(known, o.keys)
		}
	}
	return maps.All(known)
}

// Replace implements [reflector.Store].
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
	for name, o := range s.services {
		if prefix := s.keys.ClaimsOf(name); prefix < l.From || prefix >= l.To {
			continue
		}
		o.forget()
	}
	for key, revision := range found {
		if service, id, ok := s.keys.ParseClaim(key); ok {
			s.service(service).add(id, key, revision)
		}
	}
	return nil
}

// Apply implements [reflector.Store].
func (s *slotStore) Apply(u reflector.Update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	freed := map[*occupancy]bool{}
	for _, e := range u.Events {
		key := string(e.Kv.Key)
		service, id, ok := s.keys.ParseClaim(key)
		if !ok {
			continue
		}
		o := s.service(service)
		if e.Type == mvccpb.DELETE {
			if o.applyDelete(id, key, e.Kv.ModRevision) {
				freed[o] = true
			}
		} else {
			o.add(id, key, e.Kv.ModRevision)
		}
	}
	for _, o := range s.services {
		for key, revision := range o.reserved {
			if revision > 0 && revision <= u.Revision {
				delete(o.reserved, key)
			}
		}
	}
	for o := range freed {
		o.wake()
	}
}

// confirmReservation reserves a slot that was claimed at a revision, until the watch has
// reached that revision.
func (s *slotStore) confirmReservation(service, key string, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.service(service).reserved[key] = revision
}

// cancelReservation ends the reservation of a key that was not claimed.
func (s *slotStore) cancelReservation(service, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.service(service)
	delete(o.reserved, key)
	o.wake()
}

// release frees the slot of a claim that this agent has released; see [occupancy.release].
func (s *slotStore) release(key string, created, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	service, id, _ := s.keys.ParseClaim(key)
	if o, ok := s.services[discovery.FoldName(service)]; ok {
		o.release(id, key, created, revision)
	}
}

// drop discards the occupancy of a service.
func (s *slotStore) drop(service string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.services, discovery.FoldName(service))
}
