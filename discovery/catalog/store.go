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

// reflectorStore is the [reflector.Store] behind a catalog: the reflector keeps the view
// equal to etcd through it.
type reflectorStore struct{ *Catalog }

// Known implements [reflector.Store].
func (rs reflectorStore) Known(r reflector.Range) iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		for key, revision := range rs.snapshot().Only(rs.keys.ScopeOf(r.From)).Keys() {
			if !yield(rs.keys.Name(key), revision) {
				return
			}
		}
		for key, revision := range rs.unreadable.revisions {
			if name := nameOf(rs.keys, key); r.Contains(name) && !yield(name, revision) {
				return
			}
		}
		for key, revision := range rs.suspects.orderRevisions() {
			if name := rs.keys.Name(key); r.Contains(name) && !yield(name, revision) {
				return
			}
		}
	}
}

// Replace implements [reflector.Store]. Services without a key stay known as empty ones.
// The mass-loss guard retains missing instances: as suspects when etcd started over.
func (rs reflectorStore) Replace(l *reflector.Listing) error {
	b := builder{keys: rs.keys, snapshot: view.EmptySnapshot().WithEpoch(l.Epoch)}
	revision, err := l.Read(b.add)
	if err != nil {
		return err
	}
	rs.noteResync()
	scope := rs.keys.ScopeOf(l.From)
	before := rs.current()
	rest, inScope := before.Without(scope), before.Only(scope)
	if len(l.Except) > 0 {
		rest, inScope = before, view.EmptySnapshot() // the view has only excepted scopes
	}
	rs.unreadable.replace(b.broken, func(key discovery.Key) bool { return l.Contains(nameOf(rs.keys, key)) })
	next := b.finish(revision).RetainServices(inScope)
	next = rs.retainMissing(next, inScope, scope, l.StartedOver)
	rs.suspects.replaceOrders(b.orders, func(key discovery.Key) bool { return l.Contains(rs.keys.Name(key)) }, l.StartedOver)
	rs.emptyServices.updateAll(next, l.Started)
	all := len(l.Except) == 0 && scope == everything
	if !all {
		next = rest.With(next, l.StartedOver)
	}
	rs.recordListing(scope, inScope, next, l.StartedOver)
	rs.publishScope(scope, next, l.Started, all || l.StartedOver)
	rs.subscriptions.setWatched(scope)
	rs.missing.remove(scope)
	rs.renotify(scope)
	return nil
}

// renotify wakes the waiters for a scope once more, now that its subscription is marked as
// watched: those that publishing woke may have looked before that.
func (c *Catalog) renotify(scope discovery.Scope) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if scope == everything {
		c.notifier.notifyAll()
	} else {
		c.notifier.notify([]string{scope.Service}, nil)
	}
}

// current returns the snapshot that the next one is made from: the published one or, until
// all scopes have been listed once, the scopes listed so far.
func (rs reflectorStore) current() *view.Snapshot {
	if s := cmp.Or(rs.snapshot(), rs.partialView); s != nil {
		return s
	}
	return view.EmptySnapshot()
}

// Apply implements [reflector.Store].
func (rs reflectorStore) Apply(u reflector.Update) {
	rs.metrics.events.Add(float64(len(u.Events)))
	if u.Resynced {
		rs.noteResync()
		rs.recordGap(u.Revision)
	}
	before := rs.current().WithEpoch(u.Epoch)
	if rs.snapshot() == nil {
		rs.publishReset(state{snapshot: before, confirmed: u.Confirmed})
		rs.partialView = nil
	}
	changes := make([]view.Change, len(u.Events))
	apart := u.Apart || !rs.isWhole()
	for n, e := range u.Events {
		changes[n] = rs.changeOf(e)
		changes[n].Apart = apart
		changes[n].Late = e.Kv.ModRevision <= before.Revision()
	}
	rs.applyChanges(before, max(u.Revision, before.Revision()), changes, u.Resynced, rs.confirmedBy(u))
	rs.lastGoodExpired = false
}

// confirmedBy returns the published state with what an update confirms of it.
func (c *Catalog) confirmedBy(u reflector.Update) state {
	s := *c.state.Load()
	s.confirmed, s.restored = u.Confirmed, false
	if s.whole {
		s.complete = max(s.complete, u.ConfirmedRevision)
		if len(u.Behind) == 0 {
			s.complete = max(s.complete, u.Progress)
		}
	}
	return s
}

// changeOf returns the change that an event of the watch stands for.
func (c *Catalog) changeOf(e *clientv3.Event) view.Change {
	key := parse(c.keys, e.Kv.Key)
	if e.Type == clientv3.EventTypeDelete {
		return view.Change{Key: key, Modified: e.Kv.ModRevision}
	}
	return changeFrom(key, e.Kv)
}

// applyChanges applies changes to a snapshot and publishes the result as that of a state.
func (c *Catalog) applyChanges(before *view.Snapshot, revision int64, changes []view.Change, listed bool, in state) {
	known, alien := splitAlien(changes)
	c.suspects.markDeletions(known)
	next, events, broken := before.Apply(revision, known)
	if len(changes) > 0 {
		c.unreadable.update(changes, append(broken, alien...))
	}
	changed := make([]string, 0, len(known))
	now := time.Now()
	events = c.suspects.track(next, known, events, listed, now)
	c.suspects.applyOrders(suspectOrders(changes))
	for _, change := range known {
		if change.Key.Kind == discovery.KeyLoad {
			continue // load reports wake nobody
		}
		changed = append(changed, change.Key.Service)
		c.emptyServices.update(next, change.Key.Service, now)
	}
	if expired := c.emptyServices.expire(now); len(expired) > 0 {
		next, changed = next.WithoutEmpty(expired...), append(changed, expired...)
	}
	in.snapshot = next
	c.recordEvents(before, events, broken, listed)
	c.publish(in, changed, events)
	c.resolveMissing()
}

// publish makes a state the one that readers load, and wakes the waiters for the changed
// services; "" stands for a node.
func (c *Catalog) publish(next state, changed []string, events []view.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.snapshot()
	c.history.add(next.snapshot, events)
	c.state.Store(&next)
	c.notifier.notify(changed, before)
	c.metrics.observe(&next)
}

// publishReset publishes a state to which no earlier events lead, as after etcd started
// over, and wakes all waiters.
func (c *Catalog) publishReset(next state) {
	next.first = next.snapshot.Revision()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.history.reset(next.snapshot)
	c.state.Store(&next)
	c.notifier.notifyAll()
	c.metrics.observe(&next)
}

// publishScope publishes a view after one of its scopes was listed. reset is set if no
// earlier events lead to it. Until every scope has been listed once, a first view is not
// published, and a restored one is not confirmed.
func (c *Catalog) publishScope(scope discovery.Scope, snapshot *view.Snapshot, listed time.Time, reset bool) {
	before := c.state.Load()
	if before == nil && scope != everything {
		c.partialView = snapshot
		c.mu.Lock()
		defer c.mu.Unlock()
		c.history.addScope(scope, snapshot)
		return
	}
	next := state{snapshot: snapshot, whole: true, confirmed: listed}
	switch {
	case scope != everything:
		next = *before
		next.snapshot = snapshot
		if reset {
			next.complete = 0 // it was of another life
		}
	case !reset:
		next.confirmed, next.first = before.confirmed, before.first
	}
	if reset {
		c.publishReset(next)
	} else {
		c.publish(next, []string{scope.Service}, nil)
	}
	c.mu.Lock()
	c.history.addScope(scope, snapshot)
	c.mu.Unlock()
	c.resolveMissing()
}

// publishNarrowed publishes a view that has only the scopes that are still watched.
func (c *Catalog) publishNarrowed(next *view.Snapshot, watched []discovery.Scope) {
	c.recordNarrowed(next, watched)
	c.unreadable.retain(func(key discovery.Key) bool { return c.inScopes(watched, key) })
	c.emptyServices.retainKnown(next)
	if c.suspects != nil {
		unwatched := func(service string) bool { return !slices.Contains(watched, serviceScope(service)) }
		c.suspects.forget(unwatched)
		c.suspects.replaceOrders(nil, func(key discovery.Key) bool { return unwatched(key.Service) }, false)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	narrowed := *c.state.Load()
	narrowed.snapshot, narrowed.whole = next, false
	c.history.retainScopes(watched, next)
	c.state.Store(&narrowed)
	c.notifier.notifyAll()
	c.metrics.observe(&narrowed)
}

// inScopes reports whether a key lies in one of the scopes.
func (c *Catalog) inScopes(scopes []discovery.Scope, key discovery.Key) bool {
	name := nameOf(c.keys, key)
	return slices.ContainsFunc(scopes, func(scope discovery.Scope) bool { return c.scopeRange(scope).Contains(name) })
}
