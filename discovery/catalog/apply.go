package catalog

import (
	"cmp"
	"iter"
	"time"

	"disc/discovery"
	"disc/discovery/follow"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Timing of the watch in a large fleet, so that many agents do not ask etcd often.
const (
	largeFleet = 1000 // nodes
	quietLarge = 5 * time.Second
)

// everything is the range of all that a catalog holds.
func everything(keys discovery.Keys) follow.Range {
	from, to := keys.CatalogRange()
	return follow.Range{From: from, To: to}
}

// mirror is a catalog as what its follower keeps equal to etcd.
type mirror struct{ *Catalog }

// Known implements [follow.Mirror].
func (m mirror) Known(follow.Range) iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		for key, revision := range m.snapshot().Keys() {
			if !yield(m.keys.Name(key), revision) {
				return
			}
		}
		for key, revision := range m.ailing.revisions {
			name := m.keys.Name(key)
			if key.Kind == discovery.KeyOther {
				name = key.ID
			}
			if !yield(name, revision) {
				return
			}
		}
	}
}

// Replace implements [follow.Mirror]. Services that are not there any more stay known,
// and instances are kept by the guard: as suspects when etcd started over.
func (m mirror) Replace(l *follow.Listing) error {
	b := builder{keys: m.keys, snapshot: discovery.EmptySnapshot().WithEpoch(l.Epoch)}
	revision, err := l.Read(b.add)
	if err != nil {
		return err
	}
	before := cmp.Or(m.snapshot(), discovery.EmptySnapshot())
	m.ailing.replace(b.broken)
	next := b.finish(revision).KeepKnown(before)
	next = m.keep(next, before, l.Over)
	m.departed.noteAll(next, l.Started)
	m.publishAnew(next, l.Started)
	m.judge()
	m.outdated = false
	return nil
}

// Apply implements [follow.Mirror].
func (m mirror) Apply(u follow.Update) {
	m.metrics.events.Add(float64(len(u.Events)))
	changes := make([]discovery.Change, len(u.Events))
	for n, e := range u.Events {
		changes[n] = m.event(e)
	}
	m.apply(m.snapshot().WithEpoch(u.Epoch), u.Revision, changes, u.Confirmed)
}

// event turns an event of the watch into a change.
func (c *Catalog) event(e *clientv3.Event) discovery.Change {
	key := parse(c.keys, e.Kv.Key)
	if e.Type == clientv3.EventTypeDelete {
		return discovery.Change{Key: key, Modified: e.Kv.ModRevision}
	}
	return change(key, e.Kv)
}

// apply makes a new view of the changes and publishes it. confirmed is a moment at
// which etcd had nothing newer.
func (c *Catalog) apply(before *discovery.Snapshot, revision int64, changes []discovery.Change, confirmed time.Time) {
	known, alien := separate(changes)
	c.suspects.before(known)
	next, events, broken := before.Apply(revision, known)
	if len(changes) > 0 {
		c.ailing.update(changes, append(broken, alien...))
	}
	changed := make([]string, len(known))
	now := time.Now()
	events = c.suspects.after(next, known, events, now)
	for n, change := range known {
		changed[n] = change.Key.Service
		c.departed.note(next, change.Key.Service, now)
	}
	if old := c.departed.old(now); len(old) > 0 {
		next, changed = next.Forget(old...), append(changed, old...)
	}
	c.publish(next, confirmed, changed, events)
	c.judge()
}

// publish makes a snapshot the one that readers see, and wakes those who wait for a
// service that changed; "" stands for a node.
func (c *Catalog) publish(next *discovery.Snapshot, confirmed time.Time, changed []string, events []discovery.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.snapshot()
	c.events.add(next, events)
	c.state.Store(&state{snapshot: next, confirmed: confirmed})
	c.waiters.wake(changed, before)
	c.metrics.shows(next)
}

// publishAnew makes a snapshot of another life the one that readers see, and wakes
// everybody.
func (c *Catalog) publishAnew(next *discovery.Snapshot, confirmed time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events.begin(next)
	c.state.Store(&state{snapshot: next, confirmed: confirmed})
	c.waiters.wakeAll()
	c.metrics.shows(next)
}

// quiet is how long the watch may bring nothing: longer in a large fleet.
func (c *Catalog) quiet() time.Duration {
	if s := c.snapshot(); s != nil && s.NodeCount() > largeFleet {
		return quietLarge
	}
	return follow.DefaultQuiet
}
