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
	listed := revisions{listedAt: revision, deliveredUpTo: revision, lastChange: revision}
	if len(l.Except) > 0 {
		listed.deliveredUpTo = 0 // the excepted ranges may lag behind
	}
	known := false
	for n, cr := range next.ranges {
		if l.Covers(cr.Range) && !excepted(cr.From) {
			next.ranges[n] = cr.withRevisions(listed)
			known = known || cr.Range == l.Range
		}
	}
	if !known {
		cr := &cachedRange{Range: l.Range, revisions: listed}
		cr.touch()
		next.ranges = append(next.ranges, cr)
	}
	if l.StartedOver {
		s.history = history{}
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
		for n, cr := range next.ranges {
			if cr.Contains(key) {
				next.ranges[n] = cr.withRevisions(revisions{cr.listedAt, cr.deliveredUpTo, e.Kv.ModRevision})
			}
		}
		s.history.add(event)
	}
	next.confirmed, next.epoch = u.Confirmed, u.Epoch
	completed := s.updateDelivered(next)
	s.publish(next, completed || len(u.Events) > 0)
}

// updateDelivered updates deliveredUpTo of the ranges that have changed or are not complete.
// It reports whether a range is complete now that was not before.
func (s reflectorStore) updateDelivered(next *state) (completed bool) {
	for n, cr := range next.ranges {
		if cr.deliveredUpTo >= max(cr.listedAt, cr.lastChange) {
			continue
		}
		delivered := max(cr.deliveredUpTo, s.reflector.DeliveredRevision(cr.Range))
		completed = completed || cr.deliveredUpTo < cr.listedAt && delivered >= cr.listedAt
		next.ranges[n] = cr.withRevisions(revisions{cr.listedAt, delivered, cr.lastChange})
	}
	return completed
}

// publish makes a state the one that readers load and, if it has changed, wakes the waiters.
// The caller holds s.mu.
func (s *Store) publish(next *state, changed bool) {
	s.state.Store(next)
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

// withRevisions returns a copy with other revisions.
func (cr *cachedRange) withRevisions(r revisions) *cachedRange {
	next := &cachedRange{Range: cr.Range, revisions: r}
	next.used.Store(cr.used.Load())
	return next
}

func itemOf(kv *mvccpb.KeyValue) Item {
	value := kv.Value
	if value == nil { // JSON would encode it as null
		value = []byte{}
	}
	return Item{Key: string(kv.Key), Value: value, Revision: kv.ModRevision, Created: kv.CreateRevision, Lease: clientv3.LeaseID(kv.Lease)}
}

// clone returns a state that may be changed.
func (s *state) clone() *state {
	next := *s
	next.items = s.items.Clone()
	next.ranges = slices.Clone(s.ranges)
	return &next
}

func (s *state) put(i Item) {
	if before, ok := s.items.ReplaceOrInsert(i); ok {
		s.size -= before.cost()
	}
	s.size += i.cost()
}

func (s *state) delete(key string) {
	if before, ok := s.items.Delete(Item{Key: key}); ok {
		s.size -= before.cost()
	}
}

// remove removes the items of a range, except those whose keys excepted reports.
func (s *state) remove(r reflector.Range, excepted func(key string) bool) {
	var removed []string
	s.ascend(r, func(i Item) bool {
		if !excepted(i.Key) {
			removed = append(removed, i.Key)
		}
		return true
	})
	for _, key := range removed {
		s.delete(key)
	}
}

func (i Item) cost() int64 { return int64(len(i.Key)+len(i.Value)) + itemOverhead }

// ascend calls each for the items of a range, in the order of their keys, until it returns
// false.
func (s *state) ascend(r reflector.Range, each func(Item) bool) {
	s.items.AscendRange(Item{Key: r.From}, Item{Key: r.To}, each)
}

// in returns the items of a range.
func (s *state) in(r reflector.Range) iter.Seq[Item] {
	return func(yield func(Item) bool) { s.ascend(r, yield) }
}

// find returns the cached range that is equal to r; nil: there is none.
func (s *state) find(r reflector.Range) *cachedRange {
	for _, cr := range s.ranges {
		if cr.Range == r {
			return cr
		}
	}
	return nil
}

// covering returns, of the complete cached ranges that cover r, the one with the newest
// revision; nil: there is none.
func (s *state) covering(r reflector.Range) *cachedRange {
	var newest *cachedRange
	for _, cr := range s.ranges {
		if cr.Covers(r) && cr.deliveredUpTo >= cr.listedAt && (newest == nil || cr.deliveredUpTo > newest.deliveredUpTo) {
			newest = cr
		}
	}
	return newest
}
