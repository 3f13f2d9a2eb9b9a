package catalog

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/reflector"
	"disc/discovery/retry"
	"disc/discovery/view"
)

// initialRanges decides what is watched from the beginning. What was kept of an earlier
// run is, or it would be lost. It fails when ctx ended before it could.
func (c *Catalog) initialRanges(ctx context.Context) ([]reflector.Range, error) {
	kept := c.snapshot()
	if kept != nil {
		c.subscribeRestored(kept)
	} else if err := c.awaitFleetSize(ctx); err != nil {
		return nil, err
	}
	i := c.subscriptions
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, whole := i.byScope[everything]; whole {
		return []reflector.Range{c.scopeRange(everything)}, nil
	}
	var ranges []reflector.Range
	for p := range i.byScope {
		ranges = append(ranges, c.scopeRange(p))
	}
	return ranges, nil
}

// awaitFleetSize waits until the size of the fleet is known, where that decides.
func (c *Catalog) awaitFleetSize(ctx context.Context) error {
	if c.options.Watch != WatchAuto {
		return nil
	}
	var retry retry.Backoff
	for {
		err := c.updateFleetSize(ctx)
		c.setSizeErr(err)
		if err == nil {
			return nil
		}
		if retry.Failed() {
			c.log.Warn("cannot count the agents, which decides what to watch; trying again", "failures", retry.Failures(), "error", err)
		}
		if err := retry.Wait(ctx); err != nil {
			return err
		}
	}
}

// subscribeRestored takes in what of a kept view is to be watched. Of one that is not listed,
// all that it has is.
func (c *Catalog) subscribeRestored(kept *view.Snapshot) {
	i := c.subscriptions
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case c.options.Watch == WatchListed:
		i.whole.Store(false)
		next := kept.Without(everything)
		for p := range i.byScope {
			next = next.With(kept.Only(p), false)
		}
		s := *c.state.Load()
		s.snapshot = next
		c.state.Store(&s)
	case i.whole.Load():
		i.get(everything)
	default:
		for service := range kept.Services() {
			i.get(serviceScope(service.Name))
		}
	}
}

func (c *Catalog) setSizeErr(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sizeErr = err
}

// maintain has watched what is held, gives up what is idle, and looks how large the
// fleet is, until ctx ends.
func (c *Catalog) maintain(ctx context.Context, follower *reflector.Reflector) {
	if !c.subscriptions.whole.Load() && c.subscriptions.nodeCount.Load() == 0 {
		c.updateFleetSize(ctx) // if it fails: another time
	}
	look := time.NewTimer(c.subscriptions.checkInterval)
	defer look.Stop()
	var retry retry.Backoff
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.subscriptions.wake:
		case <-again:
		case <-look.C:
			if c.updateFleetSize(ctx) == nil {
				c.dropIdle(ctx, follower, time.Now())
			}
			// Etcd counts node by node, for each of them.
			every := c.subscriptions.checkInterval * time.Duration(max(1, c.agentCount()/nodesPerInterval))
			look.Reset(every/2 + rand.N(every))
		}
		if again = nil; c.subscribeRetained(ctx) {
			retry.Reset()
		} else {
			retry.Failed()
			again = time.After(retry.Next())
		}
	}
}

// subscribeRetained has watched what is held and is not watched, and reports whether all
// of it is.
func (c *Catalog) subscribeRetained(ctx context.Context) bool {
	done := true
	for _, p := range c.subscriptions.unwatched() {
		limited, cancel := context.WithTimeout(ctx, ensureTimeout)
		err := c.subscribe(limited, p)
		cancel()
		if err != nil && ctx.Err() == nil {
			c.log.Debug("cannot watch what is asked for; trying again", "part", describeScope(p), "error", err)
			done = false
		}
	}
	return done
}

// unwatched returns what is held and not watched.
func (i *subscriptions) unwatched() []discovery.Scope {
	i.mu.Lock()
	defer i.mu.Unlock()
	var parts []discovery.Scope
	if i.whole.Load() {
		return nil
	}
	for p, w := range i.byScope {
		if (w.retains > 0 || w.pinned) && !w.watched {
			parts = append(parts, p)
		}
	}
	return parts
}

// updateFleetSize takes in how large the fleet is, and decides in mode auto whether everything is
// watched. Only then does it fail: elsewhere it is good to know, and an agent need not be
// allowed to.
func (c *Catalog) updateFleetSize(ctx context.Context) error {
	if c.options.Watch == WatchAll {
		return nil
	}
	nodes, err := c.countNodes(ctx)
	if err == nil {
		c.subscriptions.nodeCount.Store(int64(nodes))
	}
	if c.options.Watch != WatchAuto {
		return nil
	}
	if err == nil && c.subscriptions.updatePinned(nodes) {
		c.log.Info("the size of the fleet decides what is watched", "nodes", nodes, "whole_namespace", nodes <= manyNodes)
	}
	return err
}

// updatePinned takes in how large the fleet is, and reports whether that changes what is
// watched: everything up to manyNodes and, once that was too much, below fewNodes.
func (i *subscriptions) updatePinned(nodes int) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	all, known := i.byScope[everything]
	pinned := known && all.pinned
	few := fewNodes
	if pinned || !i.sized {
		few = manyNodes + 1
	}
	i.sized = true
	if now := nodes < few; now == pinned {
		return false
	}
	if pinned {
		all.pinned, all.lastUsed = false, time.Time{}
	} else {
		i.get(everything).pinned = true
	}
	return true
}

// countNodes returns how many agents there are.
func (c *Catalog) countNodes(ctx context.Context) (int, error) {
	if s := c.snapshot(); s != nil && c.subscriptions.whole.Load() {
		return s.NodeCount(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, ensureTimeout)
	defer cancel()
	got, err := c.client.Get(ctx, c.keys.Nodes(), clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return 0, fmt.Errorf("count nodes: %w", err)
	}
	return int(got.Count), nil
}

// dropIdle gives up what has been idle.
func (c *Catalog) dropIdle(ctx context.Context, follower *reflector.Reflector, now time.Time) {
	i := c.subscriptions
	if c.options.Watch == WatchAll {
		return
	}
	idle := i.findIdle(c.snapshot(), now)
	for _, p := range idle {
		limited, cancel := context.WithTimeout(ctx, ensureTimeout)
		err := follower.Narrow(limited, c.scopeRange(p), func() []reflector.Range {
			if p == everything {
				return c.narrowToUsed(now)
			}
			return c.dropScope(p, now)
		})
		cancel()
		if err != nil {
			return // etcd is away: another time
		}
	}
}

// findIdle notes which services of a snapshot were looked up, and returns the watched
// parts that nobody has used for long: everything alone, if that is one.
func (i *subscriptions) findIdle(s *view.Snapshot, now time.Time) []discovery.Scope {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.updateLastUsed(s, now)
	if w, ok := i.byScope[everything]; ok && w.watched {
		if i.inUse(w, now) {
			return nil
		}
		return []discovery.Scope{everything}
	}
	var idle []discovery.Scope
	for p, w := range i.byScope {
		if w.watched && !i.inUse(w, now) {
			idle = append(idle, p)
		}
	}
	return idle
}

// updateLastUsed takes in which services were looked up since it was last called; mu is held.
func (i *subscriptions) updateLastUsed(s *view.Snapshot, now time.Time) {
	if s == nil {
		return
	}
	for service := range s.Services() {
		if service.ConsumeUsed() {
			i.get(serviceScope(service.Name)).lastUsed = now
		}
	}
	for p, w := range i.byScope { // those that were looked up while everything was watched
		if !w.watched && w.starting == nil && !i.inUse(w, now) {
			delete(i.byScope, p)
		}
	}
}

func (i *subscriptions) inUse(w *subscription, now time.Time) bool {
	return w.pinned || w.retains > 0 || now.Sub(w.lastUsed) < i.idleTimeout
}

// narrowToUsed drops from the view what nobody has used for long, now that everything is not
// to be watched any more, and returns the ranges of what stays. It runs between two
// changes of the view.
func (c *Catalog) narrowToUsed(now time.Time) []reflector.Range {
	i := c.subscriptions
	i.mu.Lock()
	defer i.mu.Unlock()
	before := c.snapshot()
	i.updateLastUsed(before, now)
	if w, ok := i.byScope[everything]; ok && i.inUse(w, now) {
		return []reflector.Range{c.scopeRange(everything)} // somebody wants it after all
	}
	next := before.Without(everything)
	var ranges []reflector.Range
	var stay []discovery.Scope
	for p, w := range i.byScope {
		if w.watched = p != everything && i.inUse(w, now); !w.watched {
			continue
		}
		ranges, stay = append(ranges, c.scopeRange(p)), append(stay, p)
		next = next.With(before.Only(p), false)
	}
	i.whole.Store(false)
	c.publishNarrowed(next, stay)
	return ranges
}

// dropScope drops a part from the view, and returns no range; its own if somebody has used it
// meanwhile. It runs between two changes of the view.
func (c *Catalog) dropScope(p discovery.Scope, now time.Time) []reflector.Range {
	i := c.subscriptions
	i.mu.Lock()
	defer i.mu.Unlock()
	i.updateLastUsed(c.snapshot(), now)
	w, ok := i.byScope[p]
	if !ok || !w.watched || i.inUse(w, now) {
		return []reflector.Range{c.scopeRange(p)}
	}
	delete(i.byScope, p)
	var stay []discovery.Scope
	for other, w := range i.byScope {
		if w.watched {
			stay = append(stay, other)
		}
	}
	c.publishNarrowed(c.snapshot().Without(p), stay)
	return nil
}
