package catalog

import (
	"errors"
	"fmt"
	"time"

	"disc/discovery"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	mvccpb "go.etcd.io/etcd/api/v3/mvccpb"
)

// take applies responses. asked is a moment before etcd made them.
func (c *Catalog) take(responses []*pb.WatchResponse, asked time.Time) error {
	before := c.snapshot()
	var changes []discovery.Change
	for _, r := range responses {
		if err := c.check(r, before.Revision()); err != nil {
			return err
		}
		for _, e := range r.Events {
			if e.Kv.ModRevision > before.Revision() { // the first answer has what the view has
				changes = append(changes, c.event(e))
			}
		}
	}
	switch {
	case len(changes) > 0:
		c.metrics.events.Add(float64(len(changes)))
		c.apply(before, changes[len(changes)-1].Modified, changes, time.Now())
	case !c.behind.IsZero():
		c.setTrouble(errors.New("the member of etcd that is watched lags behind the others"))
		return nil
	default:
		// The revision of a progress notification is not taken over: etcd before 3.4.25
		// could send one ahead of events (etcd-io/etcd#15220).
		c.apply(before, before.Revision(), nil, asked)
	}
	c.setTrouble(nil)
	return nil
}

// event turns an event of the watch into a change.
func (c *Catalog) event(e *mvccpb.Event) discovery.Change {
	key := parse(c.keys, e.Kv.Key)
	if e.Type == mvccpb.Event_DELETE {
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

// check returns why a response cannot be trusted. A member that lags behind the list
// is given a moment; longer, its etcd has lost what the list showed.
func (c *Catalog) check(r *pb.WatchResponse, reached int64) error {
	switch at := r.Header.GetRevision(); {
	case r.Canceled && r.CompactRevision != 0:
		return fmt.Errorf("watch: revision %d is compacted", reached+1)
	case r.Canceled:
		return fmt.Errorf("watch: etcd canceled it: %s", r.CancelReason)
	case r.Header.GetClusterId() != c.life.cluster:
		return fmt.Errorf("watch: the cluster id was %x and is %x: another etcd answers", c.life.cluster, r.Header.GetClusterId())
	case at >= reached:
		c.behind = time.Time{}
	case c.behind.IsZero():
		c.behind = time.Now()
	case time.Since(c.behind) > silence:
		return fmt.Errorf("watch: etcd's revision went back from %d to %d: it was wiped or restored", reached, at)
	}
	return nil
}

func (c *Catalog) quiet() time.Duration {
	if c.snapshot().NodeCount() > largeFleet {
		return quietLarge
	}
	return quiet
}
