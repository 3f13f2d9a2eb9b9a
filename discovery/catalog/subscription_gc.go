package catalog

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/etcd"
	"disc/discovery/reflector"
	"disc/discovery/retry"
	"disc/discovery/view"
)

// initialRanges returns the ranges to watch from the start. They include the scopes of a
// restored view, which would be lost otherwise. It fails only when ctx ends.
func (c *Catalog) initialRanges(ctx context.Context) ([]reflector.Range, error) {
	restored := c.snapshot()
	if restored != nil {
		c.subscribeRestored(restored)
	} else if err := c.awaitFleetSize(ctx); err != nil {
		return nil, err
	}
	subs := c.subscriptions
	subs.mu.Lock()
	defer subs.mu.Unlock()
	if _, whole := subs.byScope[everything]; whole {
		return []reflector.Range{c.scopeRange(everything)}, nil
	}
	var ranges []reflector.Range
	for scope := range subs.byScope {
		ranges = append(ranges, c.scopeRange(scope))
	}
	return ranges, nil
}

// awaitFleetSize waits until the fleet is counted, if that decides what to watch.
func (c *Catalog) awaitFleetSize(ctx context.Context) error {
	if c.options.Watch != WatchAuto {
		return nil
	}
	var backoff retry.Backoff
	for {
		err := c.updateFleetSize(ctx)
		c.setSizeErr(err)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if backoff.Failed() {
			c.log.Warn("cannot count the agents, which decides what to watch; retrying", "failures", backoff.Failures(), "error", err)
		}
		if err := backoff.Wait(ctx); err != nil {
			return err
		}
	}
}

// subscribeRestored subscribes all scopes of a restored view. With WatchListed, it reduces
// the view to the listed scopes instead.
func (c *Catalog) subscribeRestored(restored *view.Snapshot) {
	subs := c.subscriptions
	subs.mu.Lock()
	defer subs.mu.Unlock()
	switch {
	case c.options.Watch == WatchListed:
		next := restored.Without(everything)
		for scope := range subs.byScope {
			next = next.With(restored.Only(scope), false)
		}
		s := *c.state.Load()
		s.snapshot, s.whole = next, false
		c.state.Store(&s)
	case c.isWhole():
		subs.get(everything)
	default:
		for service := range restored.Services() {
			subs.get(serviceScope(service.Name))
		}
	}
}

func (c *Catalog) setSizeErr(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sizeErr = err
}

// maintain subscribes retained scopes, drops idle ones and recounts agents until ctx ends.
func (c *Catalog) maintain(ctx context.Context, r *reflector.Reflector) {
	if !c.isWhole() && c.subscriptions.nodeCount.Load() == 0 {
		_ = c.updateFleetSize(ctx) // if it fails, the next check repeats it
	}
	check := time.NewTimer(c.subscriptions.checkInterval)
	defer check.Stop()
	var backoff retry.Backoff
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.subscriptions.wake:
		case <-again:
			again = nil
		case <-check.C:
			if c.updateFleetSize(ctx) == nil {
				c.dropIdle(ctx, r, time.Now())
			}
			// Each agent counts, and etcd visits every node to do so: the load grows with
			// the square of the fleet.
			interval := c.subscriptions.checkInterval * time.Duration(max(1, c.agentCount()/nodesPerInterval))
			check.Reset(interval/2 + rand.N(interval))
		}
		switch failed, refused := c.subscribeRetained(ctx); {
		case failed:
			backoff.Failed()
			again = time.After(backoff.Next())
		case !refused:
			backoff.Reset()
			again = nil
		case again == nil:
			again = time.After(missingTTL)
		}
	}
}

// subscribeRetained subscribes the retained and pinned scopes that are not watched, except those
// that etcd refused a moment ago. It reports whether one failed, and whether one was refused.
func (c *Catalog) subscribeRetained(ctx context.Context) (failed, refused bool) {
	for _, scope := range c.unwatched() {
		if _, forbidden := c.missing.has(scope); forbidden != nil {
			refused = true
			continue
		}
		limited, cancel := context.WithTimeout(ctx, ensureTimeout)
		err := c.subscribe(limited, scope)
		cancel()
		if err != nil && ctx.Err() == nil {
			c.log.Debug("cannot watch a scope; retrying", "scope", describeScope(scope), "error", err)
			failed = true
		}
	}
	return failed, refused
}

// unwatched returns the retained and pinned scopes that are not watched.
func (c *Catalog) unwatched() []discovery.Scope {
	subs := c.subscriptions
	subs.mu.Lock()
	defer subs.mu.Unlock()
	var scopes []discovery.Scope
	if c.isWhole() {
		return nil
	}
	for scope, sub := range subs.byScope {
		if (sub.retains > 0 || sub.pinned) && !sub.watched {
			scopes = append(scopes, scope)
		}
	}
	return scopes
}

// updateFleetSize counts the agents. With WatchAuto, it then decides whether the whole
// namespace is watched, and returns an error if it cannot count. Where etcd forbids to count,
// single scopes are watched. In other modes the count is optional.
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
	if etcd.Refused(err) == etcd.RefusedPermission {
		c.subscriptions.updatePinned(math.MaxInt)
		if !c.subscriptions.countForbidden.Swap(true) {
			c.log.Warn("etcd forbids to count the agents; watching only the services that are asked for", "error", err)
		}
		return nil
	}
	if err == nil {
		c.subscriptions.countForbidden.Store(false)
	}
	if err == nil && c.subscriptions.updatePinned(nodes) {
		c.log.Info("the size of the fleet changes what is watched", "nodes", nodes, "whole_namespace", nodes <= manyNodes)
	}
	return err
}

// updatePinned pins the whole namespace in a fleet of up to manyNodes or, after it was
// larger, below fewNodes, and unpins it in a larger one. It reports whether that changed.
func (subs *subscriptions) updatePinned(nodes int) bool {
	subs.mu.Lock()
	defer subs.mu.Unlock()
	all, ok := subs.byScope[everything]
	pinned := ok && all.pinned
	limit := fewNodes
	if pinned || !subs.sized {
		limit = manyNodes + 1
	}
	subs.sized = true
	if small := nodes < limit; small == pinned {
		return false
	}
	if pinned {
		all.pinned, all.lastUsed = false, time.Time{}
	} else {
		subs.get(everything).pinned = true
	}
	return true
}

// countNodes returns the number of agents.
func (c *Catalog) countNodes(ctx context.Context) (int, error) {
	if s := c.state.Load(); s != nil && s.whole {
		return s.snapshot.NodeCount(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, ensureTimeout)
	defer cancel()
	got, err := c.client.Get(ctx, c.keys.Nodes(), clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return 0, fmt.Errorf("count nodes: %w", err)
	}
	return int(got.Count), nil
}

// dropIdle stops watching idle scopes and drops them from the view.
func (c *Catalog) dropIdle(ctx context.Context, r *reflector.Reflector, now time.Time) {
	subs := c.subscriptions
	if c.options.Watch == WatchAll {
		return
	}
	idle := subs.findIdle(c.snapshot(), now)
	for _, scope := range idle {
		limited, cancel := context.WithTimeout(ctx, ensureTimeout)
		err := r.Narrow(limited, c.scopeRange(scope), func() []reflector.Range {
			if scope == everything {
				return c.narrowToUsed(now)
			}
			return c.dropScope(scope, now)
		})
		cancel()
		if err != nil {
			return // etcd is away; the next check repeats it
		}
	}
}

// findIdle updates the times of last use and returns the watched scopes that are idle. While
// the whole namespace is watched, that is at most the whole namespace.
func (subs *subscriptions) findIdle(s *view.Snapshot, now time.Time) []discovery.Scope {
	subs.mu.Lock()
	defer subs.mu.Unlock()
	subs.updateLastUsed(s, now)
	if sub, ok := subs.byScope[everything]; ok && sub.watched {
		if subs.inUse(sub, now) {
			return nil
		}
		return []discovery.Scope{everything}
	}
	var idle []discovery.Scope
	for scope, sub := range subs.byScope {
		if sub.watched && !subs.inUse(sub, now) {
			idle = append(idle, scope)
		}
	}
	return idle
}

// updateLastUsed updates the last use of the services that were looked up since the previous
// call. The caller holds mu.
func (subs *subscriptions) updateLastUsed(s *view.Snapshot, now time.Time) {
	if s == nil {
		return
	}
	for service := range s.Services() {
		if service.ConsumeUsed() {
			subs.get(serviceScope(service.Name)).lastUsed = now
		}
	}
	for scope, sub := range subs.byScope { // services that were looked up while everything was watched
		if !sub.watched && sub.starting == nil && !subs.inUse(sub, now) {
			delete(subs.byScope, scope)
		}
	}
}

func (subs *subscriptions) inUse(sub *subscription, now time.Time) bool {
	return sub.pinned || sub.retains > 0 || now.Sub(sub.lastUsed) < subs.idleTimeout
}

// narrowToUsed replaces the subscription of the whole namespace by those of the scopes in
// use. It drops the others from the view and returns the ranges to watch. It runs
// serialized with the changes of the view.
func (c *Catalog) narrowToUsed(now time.Time) []reflector.Range {
	subs := c.subscriptions
	subs.mu.Lock()
	defer subs.mu.Unlock()
	before := c.snapshot()
	subs.updateLastUsed(before, now)
	if sub, ok := subs.byScope[everything]; ok && subs.inUse(sub, now) {
		return []reflector.Range{c.scopeRange(everything)} // it was used meanwhile
	}
	next := before.Without(everything)
	var ranges []reflector.Range
	var watched []discovery.Scope
	for scope, sub := range subs.byScope {
		if sub.watched = scope != everything && subs.inUse(sub, now); !sub.watched {
			continue
		}
		ranges, watched = append(ranges, c.scopeRange(scope)), append(watched, scope)
		next = next.With(before.Only(scope), false)
	}
	c.publishNarrowed(next, watched)
	return ranges
}

// dropScope drops a scope from the view and returns no range to watch or, if the scope was
// used meanwhile or everything is watched, its own. It runs serialized with the changes of the
// view.
func (c *Catalog) dropScope(scope discovery.Scope, now time.Time) []reflector.Range {
	subs := c.subscriptions
	subs.mu.Lock()
	defer subs.mu.Unlock()
	subs.updateLastUsed(c.snapshot(), now)
	sub, ok := subs.byScope[scope]
	if !ok || !sub.watched || subs.inUse(sub, now) || c.isWhole() { // the watch of everything delivers it
		return []reflector.Range{c.scopeRange(scope)}
	}
	delete(subs.byScope, scope)
	var watched []discovery.Scope
	for other, sub := range subs.byScope {
		if sub.watched {
			watched = append(watched, other)
		}
	}
	c.publishNarrowed(c.snapshot().Without(scope), watched)
	return nil
}
