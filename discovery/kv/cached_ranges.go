package kv

import (
	"iter"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/reflector"
)

// reflectorStore makes a store's state of what its follower tells.
type reflectorStore struct{ *Store }

// Known implements [follow.Mirror].
func (m reflectorStore) Known(r reflector.Range) iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		m.state.Load().ascend(r, func(i Item) bool { return yield(i.Key, i.Revision) })
	}
}

// Replace implements [follow.Mirror].
func (m reflectorStore) Replace(l *reflector.Listing) error {
	var listed []Item
	revision, err := l.Read(func(page []*mvccpb.KeyValue) {
		for _, kv := range page {
			listed = append(listed, itemOf(kv))
		}
	})
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.state.Load().clone()
	excepted := func(key string) bool {
		return slices.ContainsFunc(l.Except, func(r reflector.Range) bool { return contains(r, key) })
	}
	next.remove(l.Range, excepted)
	for _, i := range listed {
		next.put(i)
	}
	begun := revisions{listedAt: revision, deliveredUpTo: revision, lastChange: revision}
	if len(l.Except) > 0 {
		begun.deliveredUpTo = 0 // what is excepted may lag behind
	}
	known := false
	for n, c := range next.ranges {
		if covers(l.Range, c.Range) && !excepted(c.From) { // it begins anew
			next.ranges[n] = c.withRevisions(begun)
			known = known || c.Range == l.Range
		}
	}
	if !known {
		c := &cachedRange{Range: l.Range, revisions: begun}
		c.touch()
		next.ranges = append(next.ranges, c)
	}
	if l.StartedOver {
		m.history = history{}
	}
	next.epoch = l.Epoch
	m.publish(next, true)
	return nil
}

// Apply implements [follow.Mirror].
func (m reflectorStore) Apply(u reflector.Update) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.state.Load().clone()
	for _, e := range u.Events {
		key := string(e.Kv.Key)
		event := Event{Revision: e.Kv.ModRevision, Key: key[len(m.prefix):]}
		if e.Type == clientv3.EventTypeDelete {
			next.delete(key)
		} else {
			item := itemOf(e.Kv)
			event.Item = &item
			next.put(item)
		}
		for n, c := range next.ranges {
			if contains(c.Range, key) {
				next.ranges[n] = c.withRevisions(revisions{c.listedAt, c.deliveredUpTo, e.Kv.ModRevision})
			}
		}
		m.history.add(event)
	}
	next.confirmed, next.epoch = u.Confirmed, u.Epoch
	settled := m.updateDelivered(next)
	m.publish(next, settled || len(u.Events) > 0)
}

// updateDelivered notes up to where the copies have come that have changed or are not complete, and
// reports whether one of these is now.
func (m reflectorStore) updateDelivered(next *state) (settled bool) {
	for n, c := range next.ranges {
		if c.deliveredUpTo >= max(c.listedAt, c.lastChange) {
			continue
		}
		told := max(c.deliveredUpTo, m.reflector.DeliveredRevision(c.Range))
		settled = settled || c.deliveredUpTo < c.listedAt && told >= c.listedAt
		next.ranges[n] = c.withRevisions(revisions{c.listedAt, told, c.lastChange})
	}
	return settled
}

// publish shows a state to readers and, if something has changed, wakes those who wait.
// The store is locked.
func (s *Store) publish(next *state, changed bool) {
	s.state.Store(next)
	if changed {
		close(s.changed)
		s.changed = make(chan struct{})
	}
}

// removeRange takes a copy out, but for what others have of it. Who waits for its changes is
// woken, since they are heard of no more.
func (s *Store) removeRange(c *cachedRange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.state.Load().clone()
	next.ranges = slices.DeleteFunc(next.ranges, func(other *cachedRange) bool { return other.Range == c.Range })
	next.remove(c.Range, func(key string) bool {
		return slices.ContainsFunc(next.ranges, func(other *cachedRange) bool { return contains(other.Range, key) })
	})
	s.publish(next, true)
}

// withRevisions returns the copy with other revisions.
func (c *cachedRange) withRevisions(r revisions) *cachedRange {
	next := &cachedRange{Range: c.Range, revisions: r}
	next.used.Store(c.used.Load())
	return next
}

func itemOf(kv *mvccpb.KeyValue) Item {
	value := kv.Value
	if value == nil { // which JSON would call null
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

// remove takes out what lies in a range, but for what is to be kept.
func (s *state) remove(r reflector.Range, keep func(key string) bool) {
	var gone []string
	s.ascend(r, func(i Item) bool {
		if !keep(i.Key) {
			gone = append(gone, i.Key)
		}
		return true
	})
	for _, key := range gone {
		s.delete(key)
	}
}

func (i Item) cost() int64 { return int64(len(i.Key)+len(i.Value)) + itemOverhead }

// ascend goes through a range in the order of its keys.
func (s *state) ascend(r reflector.Range, each func(Item) bool) {
	s.items.AscendRange(Item{Key: r.From}, Item{Key: r.To}, each)
}

// in are the items of a range.
func (s *state) in(r reflector.Range) iter.Seq[Item] {
	return func(yield func(Item) bool) { s.ascend(r, yield) }
}

// find returns the copy of just a range; nil: there is none.
func (s *state) find(r reflector.Range) *cachedRange {
	for _, c := range s.ranges {
		if c.Range == r {
			return c
		}
	}
	return nil
}

// covering returns the complete copy that has all of a range up to the newest revision; nil: there
// is none.
func (s *state) covering(r reflector.Range) *cachedRange {
	var newest *cachedRange
	for _, c := range s.ranges {
		if covers(c.Range, r) && c.deliveredUpTo >= c.listedAt && (newest == nil || c.deliveredUpTo > newest.deliveredUpTo) {
			newest = c
		}
	}
	return newest
}

func covers(outer, inner reflector.Range) bool {
	return inner.From >= outer.From && inner.To <= outer.To
}

func contains(r reflector.Range, key string) bool { return key >= r.From && key < r.To }
