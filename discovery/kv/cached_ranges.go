package kv

import (
	"iter"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/reflector"
)

// reflectorStore is the [reflector.Store] behind a Store: the reflector keeps the cached
// ranges current through it.
type reflectorStore struct{ *Store }

// Known implements [reflector.Store].
func (s reflectorStore) Known(r reflector.Range) iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		s.state.Load().ascend(r, func(i Item) bool { return yield(i.Key, i.Revision) })
	}
}

// Replace implements [reflector.Store].
func (s reflectorStore) Replace(l *reflector.Listing) error {
	var items []Item
	revision, err := l.Read(func(page []*mvccpb.KeyValue) {
		for _, kv := range page {
			items = append(items, itemOf(kv))
		}
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.state.Load().clone()
	excepted := func(key string) bool {
		return slices.ContainsFunc(l.Except, func(r reflector.Range) bool { return r.Contains(key) })
	}
	next.remove(l.Range, excepted)
	for _, i := range items {
		next.put(i)
	}
	if l.StartedOver {
		s.eventLog.clear()
		next.progress = 0
	}
	listed := revisions{listedAt: revision, deliveredUpTo: revision, noProgress: next.progress, lastChange: revision}
	if len(l.Except) > 0 {
		listed.deliveredUpTo = 0 // the excepted ranges may lag behind
	}
	for _, r := range l.Except {
		for _, cr := range next.ranges {
			if r.Covers(cr.Range) {
				listed.lastChange = max(listed.lastChange, cr.lastChange) // or have later writes
			}
		}
	}
	for n, cr := range next.ranges {
		if l.Covers(cr.Range) && !excepted(cr.From) {
			next.changeRange(n, func(r *revisions) { *r = listed })
		}
	}
	if next.find(l.Range) == nil {
		cr := &cachedRange{Range: l.Range, revisions: listed}
		cr.touch()
		next.addRange(cr)
	}
	next.epoch = l.Epoch
	s.publish(next, true)
	return nil
}

// Apply implements [reflector.Store].
func (s reflectorStore) Apply(u reflector.Update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.state.Load().clone()
	for _, e := range u.Events {
		key := string(e.Kv.Key)
		event := Event{Revision: e.Kv.ModRevision, Key: key[len(s.prefix):]}
		if e.Type == clientv3.EventTypeDelete {
			next.delete(key)
		} else {
			item := itemOf(e.Kv)
			event.Item = &item
			next.put(item)
		}
		next.changeRanges(key, func(r *revisions) { r.lastChange = max(r.lastChange, event.Revision) })
		s.eventLog.add(event)
	}
	next.confirmed, next.epoch = u.Confirmed, u.Epoch
	s.updateDelivered(next)
	next.advance(u.Progress, u.Behind)
	// What lags may have caught up: watchers get the events that were held back.
	s.publish(next, len(u.Events) > 0 || s.state.Load().lagging())
	if next.size > s.options.MaxCachedBytes {
		s.overfull.Notify()
	}
}

// updateDelivered updates deliveredUpTo of the ranges that lag.
func (s reflectorStore) updateDelivered(next *state) {
	for n, cr := range next.ranges {
		if cr.deliveredUpTo < max(cr.listedAt, cr.lastChange) {
			delivered := max(cr.deliveredUpTo, s.reflector.DeliveredRevision(cr.Range))
			next.changeRange(n, func(r *revisions) { r.deliveredUpTo = delivered })
		}
	}
}

// advance records that all ranges have reached a revision, but for those that have a part in the
// ranges behind it.
func (s *state) advance(progress int64, behind []reflector.Range) {
	if progress <= s.progress {
		return
	}
	for _, r := range behind {
		for n, cr := range s.ranges {
			if cr.From < r.To && r.From < cr.To {
				delivered := s.upTo(cr)
				s.changeRange(n, func(r *revisions) { r.deliveredUpTo, r.noProgress = delivered, progress })
			}
		}
	}
	s.progress = progress
}

// publish makes a state the one that readers load, and wakes those that wait for it. If it has
// changed, it wakes those that wait for a change, too. The caller holds s.mu.
func (s *Store) publish(next *state, changed bool) {
	s.state.Store(next)
	close(s.published)
	s.published = make(chan struct{})
	if changed {
		close(s.changed)
		s.changed = make(chan struct{})
	}
}

// removeRange removes a range, without the keys that other ranges have too. It wakes the
// waiters, since the range's changes will not be seen any more.
func (s *Store) removeRange(cr *cachedRange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.state.Load().clone()
	next.ranges = slices.DeleteFunc(next.ranges, func(other *cachedRange) bool { return other.Range == cr.Range })
	next.remove(cr.Range, func(key string) bool {
		return slices.ContainsFunc(next.ranges, func(other *cachedRange) bool { return other.Contains(key) })
	})
	s.publish(next, true)
}

func itemOf(kv *mvccpb.KeyValue) Item {
	value := kv.Value
	if value == nil { // JSON would encode it as null
		value = []byte{}
	}
	return Item{Key: string(kv.Key), Value: value, Revision: kv.ModRevision, Created: kv.CreateRevision, Lease: clientv3.LeaseID(kv.Lease)}
}

func (i Item) cost() int64 { return itemCost(len(i.Key), len(i.Value)) }

func itemCost(key, value int) int64 { return int64(key+value) + itemOverhead }
