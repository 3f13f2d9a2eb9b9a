package catalog

import (
	"cmp"
	"iter"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/reflector"
	"disc/discovery/view"
)

// reflectorStore is a catalog as what its follower keeps equal to etcd.
type reflectorStore struct{ *Catalog }

// Known implements [follow.Mirror].
func (m reflectorStore) Known(r reflector.Range) iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		for key, revision := range m.snapshot().Only(m.keys.ScopeOf(r.From)).Keys() {
			if !yield(m.keys.Name(key), revision) {
				return
			}
		}
		for key, revision := range m.unreadable.revisions {
			if name := nameOf(m.keys, key); r.Contains(name) && !yield(name, revision) {
				return
			}
		}
	}
}

// Replace implements [follow.Mirror]. Services that are not there any more stay known,
// and instances are kept by the guard: as suspects when etcd started over.
func (m reflectorStore) Replace(l *reflector.Listing) error {
	b := builder{keys: m.keys, snapshot: view.EmptySnapshot().WithEpoch(l.Epoch)}
	revision, err := l.Read(b.add)
	if err != nil {
		return err
	}
	p := m.keys.ScopeOf(l.From)
	before := m.current()
	rest, part := before.Without(p), before.Only(p)
	if len(l.Except) > 0 {
		rest, part = before, view.EmptySnapshot() // what is excepted is all there is
	}
	m.unreadable.replace(b.broken, func(key discovery.Key) bool { return l.Contains(nameOf(m.keys, key)) })
	next := b.finish(revision).RetainServices(part)
	next = m.retainMissing(next, part, p, l.StartedOver)
	m.emptyServices.updateAll(next, l.Started)
	all := len(l.Except) == 0 && p == everything
	if !all {
		next = rest.With(next, l.StartedOver)
	}
	m.publishScope(p, next, l.Started, all || l.StartedOver)
	m.subscriptions.setWatched(p)
	m.renotify(p)
	return nil
}

// renotify wakes those who wait for a part that is watched now: who was woken when it
// was shown may have looked before that was known.
func (c *Catalog) renotify(p discovery.Scope) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p == everything {
		c.notifier.notifyAll()
	} else {
		c.notifier.notify([]string{p.Service}, nil)
	}
}

// current is what the view is to be made from: what readers see or, until all of it has
// been listed for the first time, what has been so far.
func (m reflectorStore) current() *view.Snapshot {
	if s := cmp.Or(m.snapshot(), m.partialView); s != nil {
		return s
	}
	return view.EmptySnapshot()
}

// Apply implements [follow.Mirror].
func (m reflectorStore) Apply(u reflector.Update) {
	m.metrics.events.Add(float64(len(u.Events)))
	before := m.current().WithEpoch(u.Epoch)
	if m.snapshot() == nil {
		m.publishReset(before, u.Confirmed)
		m.partialView = nil
	}
	changes := make([]view.Change, len(u.Events))
	for n, e := range u.Events {
		changes[n] = m.changeOf(e)
		changes[n].Late = e.Kv.ModRevision <= before.Revision()
	}
	m.applyChanges(before, max(u.Revision, before.Revision()), changes, u.Confirmed)
	m.lastGoodExpired = false
}

// changeOf turns an event of the watch into a change.
func (c *Catalog) changeOf(e *clientv3.Event) view.Change {
	key := parse(c.keys, e.Kv.Key)
	if e.Type == clientv3.EventTypeDelete {
		return view.Change{Key: key, Modified: e.Kv.ModRevision}
	}
	return changeFrom(key, e.Kv)
}

// applyChanges makes a new view of the changes and publishes it. confirmed is a moment at
// which etcd had nothing newer.
func (c *Catalog) applyChanges(before *view.Snapshot, revision int64, changes []view.Change, confirmed time.Time) {
	known, alien := splitAlien(changes)
	c.suspects.markDeletions(known)
	next, events, broken := before.Apply(revision, known)
	if len(changes) > 0 {
		c.unreadable.update(changes, append(broken, alien...))
	}
	changed := make([]string, 0, len(known))
	now := time.Now()
	events = c.suspects.track(next, known, events, now)
	for _, change := range known {
		if change.Key.Kind == discovery.KeyLoad {
			continue // nobody waits for that
		}
		changed = append(changed, change.Key.Service)
		c.emptyServices.update(next, change.Key.Service, now)
	}
	if old := c.emptyServices.expire(now); len(old) > 0 {
		next, changed = next.Forget(old...), append(changed, old...)
	}
	c.publish(next, confirmed, changed, events)
	c.resolveMissing()
}

// publish makes a snapshot the one that readers see, and wakes those who wait for a
// service that changed; "" stands for a node.
func (c *Catalog) publish(next *view.Snapshot, confirmed time.Time, changed []string, events []view.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.snapshot()
	c.history.add(next, events)
	c.state.Store(&state{snapshot: next, confirmed: confirmed})
	c.notifier.notify(changed, before)
	c.metrics.observe(next)
}

// publishReset makes a snapshot of another life the one that readers see, and wakes
// everybody.
func (c *Catalog) publishReset(next *view.Snapshot, confirmed time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.history.reset(next)
	c.state.Store(&state{snapshot: next, confirmed: confirmed})
	c.notifier.notifyAll()
	c.metrics.observe(next)
}

// publishScope shows readers a part that was listed. Where that is all there is, or of
// another life, they start over. A view that is being listed for the first time part by
// part is not shown before it is whole; one that was kept is not confirmed before.
func (c *Catalog) publishScope(p discovery.Scope, next *view.Snapshot, listed time.Time, fresh bool) {
	before := c.state.Load()
	switch {
	case before == nil && p != everything:
		c.partialView = next
	case fresh:
		c.publishReset(next, listed)
	default:
		c.publish(next, before.confirmed, []string{p.Service}, nil)
	}
	c.mu.Lock()
	c.history.addScope(p, next)
	if now := c.state.Load(); now != nil && before != nil && p != everything {
		c.state.Store(&state{snapshot: next, confirmed: before.confirmed, restored: before.restored})
	}
	c.mu.Unlock()
	if c.state.Load() != nil {
		c.resolveMissing()
	}
}

// publishNarrowed shows readers what is left when only some parts are watched any more.
func (c *Catalog) publishNarrowed(next *view.Snapshot, stay []discovery.Scope) {
	c.unreadable.retain(func(key discovery.Key) bool { return c.inScopes(stay, key) })
	c.emptyServices.retainKnown(next)
	if c.suspects != nil {
		c.suspects.forget(func(service string) bool { return !slices.Contains(stay, serviceScope(service)) })
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.state.Load()
	c.history.retainScopes(stay, next)
	c.state.Store(&state{snapshot: next, confirmed: before.confirmed, restored: before.restored})
	c.notifier.notifyAll()
	c.metrics.observe(next)
}

// inScopes reports whether a key lies in one of some parts.
func (c *Catalog) inScopes(parts []discovery.Scope, key discovery.Key) bool {
	name := nameOf(c.keys, key)
	return slices.ContainsFunc(parts, func(p discovery.Scope) bool { return c.scopeRange(p).Contains(name) })
}
