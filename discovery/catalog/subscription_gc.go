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

// firstRanges decides what is watched from the beginning. What was kept of an earlier
// run is, or it would be lost. It fails when ctx ended before it could.
func (c *Catalog) firstRanges(ctx context.Context) ([]reflector.Range, error) {
	kept := c.snapshot()
	if kept != nil {
		c.wantKept(kept)
	} else if err := c.firstSize(ctx); err != nil {
		return nil, err
	}
	i := c.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, whole := i.wants[everything]; whole {
		return []reflector.Range{c.rangeOf(everything)}, nil
	}
	var ranges []reflector.Range
	for p := range i.wants {
		ranges = append(ranges, c.rangeOf(p))
	}
	return ranges, nil
}

// firstSize waits until the size of the fleet is known, where that decides.
func (c *Catalog) firstSize(ctx context.Context) error {
	if c.options.Watch != WatchAuto {
		return nil
	}
	var retry retry.Backoff
	for {
		err := c.size(ctx)
		c.setTrouble(err)
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

// wantKept takes in what of a kept view is to be watched. Of one that is not listed,
// all that it has is.
func (c *Catalog) wantKept(kept *view.Snapshot) {
	i := c.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case c.options.Watch == WatchListed:
		i.whole.Store(false)
		next := kept.Without(everything)
		for p := range i.wants {
			next = next.With(kept.Only(p), false)
		}
		s := *c.state.Load()
		s.snapshot = next
		c.state.Store(&s)
	case i.whole.Load():
		i.of(everything)
	default:
		for service := range kept.Services() {
			i.of(partOf(service.Name))
		}
	}
}

func (c *Catalog) setTrouble(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trouble = err
}

// keepInterest has watched what is held, gives up what is idle, and looks how large the
// fleet is, until ctx ends.
func (c *Catalog) keepInterest(ctx context.Context, follower *reflector.Reflector) {
	if !c.interest.whole.Load() && c.interest.nodes.Load() == 0 {
		c.size(ctx) // if it fails: another time
	}
	look := time.NewTimer(c.interest.look)
	defer look.Stop()
	var retry retry.Backoff
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.interest.wake:
		case <-again:
		case <-look.C:
			if c.size(ctx) == nil {
				c.sweep(ctx, follower, time.Now())
			}
			// Etcd counts node by node, for each of them.
			every := c.interest.look * time.Duration(max(1, c.fleet()/countedAtOnce))
			look.Reset(every/2 + rand.N(every))
		}
		if again = nil; c.subscribeHeld(ctx) {
			retry.Reset()
		} else {
			retry.Failed()
			again = time.After(retry.Next())
		}
	}
}

// subscribeHeld has watched what is held and is not watched, and reports whether all
// of it is.
func (c *Catalog) subscribeHeld(ctx context.Context) bool {
	done := true
	for _, p := range c.interest.unwatched() {
		limited, cancel := context.WithTimeout(ctx, needTime)
		err := c.subscribe(limited, p)
		cancel()
		if err != nil && ctx.Err() == nil {
			c.log.Debug("cannot watch what is asked for; trying again", "part", describe(p), "error", err)
			done = false
		}
	}
	return done
}

// unwatched returns what is held and not watched.
func (i *interest) unwatched() []discovery.Scope {
	i.mu.Lock()
	defer i.mu.Unlock()
	var parts []discovery.Scope
	if i.whole.Load() {
		return nil
	}
	for p, w := range i.wants {
		if (w.holds > 0 || w.pinned) && !w.watched {
			parts = append(parts, p)
		}
	}
	return parts
}

// size takes in how large the fleet is, and decides in mode auto whether everything is
// watched. Only then does it fail: elsewhere it is good to know, and an agent need not be
// allowed to.
func (c *Catalog) size(ctx context.Context) error {
	if c.options.Watch == WatchAll {
		return nil
	}
	nodes, err := c.countNodes(ctx)
	if err == nil {
		c.interest.nodes.Store(int64(nodes))
	}
	if c.options.Watch != WatchAuto {
		return nil
	}
	if err == nil && c.interest.decide(nodes) {
		c.log.Info("the size of the fleet decides what is watched", "nodes", nodes, "whole_namespace", nodes <= manyNodes)
	}
	return err
}

// decide takes in how large the fleet is, and reports whether that changes what is
// watched: everything up to manyNodes and, once that was too much, below fewNodes.
func (i *interest) decide(nodes int) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	all, known := i.wants[everything]
	pinned := known && all.pinned
	few := fewNodes
	if pinned || !i.decided {
		few = manyNodes + 1
	}
	i.decided = true
	if now := nodes < few; now == pinned {
		return false
	}
	if pinned {
		all.pinned, all.used = false, time.Time{}
	} else {
		i.of(everything).pinned = true
	}
	return true
}

// countNodes returns how many agents there are.
func (c *Catalog) countNodes(ctx context.Context) (int, error) {
	if s := c.snapshot(); s != nil && c.interest.whole.Load() {
		return s.NodeCount(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, needTime)
	defer cancel()
	got, err := c.client.Get(ctx, c.keys.Nodes(), clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return 0, fmt.Errorf("count nodes: %w", err)
	}
	return int(got.Count), nil
}

// sweep gives up what has been idle.
func (c *Catalog) sweep(ctx context.Context, follower *reflector.Reflector, now time.Time) {
	i := c.interest
	if c.options.Watch == WatchAll {
		return
	}
	idle := i.findIdle(c.snapshot(), now)
	for _, p := range idle {
		limited, cancel := context.WithTimeout(ctx, needTime)
		err := follower.Narrow(limited, c.rangeOf(p), func() []reflector.Range {
			if p == everything {
				return c.narrow(now)
			}
			return c.drop(p, now)
		})
		cancel()
		if err != nil {
			return // etcd is away: another time
		}
	}
}

// findIdle notes which services of a snapshot were looked up, and returns the watched
// parts that nobody has used for long: everything alone, if that is one.
func (i *interest) findIdle(s *view.Snapshot, now time.Time) []discovery.Scope {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.note(s, now)
	if w, ok := i.wants[everything]; ok && w.watched {
		if i.inUse(w, now) {
			return nil
		}
		return []discovery.Scope{everything}
	}
	var idle []discovery.Scope
	for p, w := range i.wants {
		if w.watched && !i.inUse(w, now) {
			idle = append(idle, p)
		}
	}
	return idle
}

// note takes in which services were looked up since it was last called; mu is held.
func (i *interest) note(s *view.Snapshot, now time.Time) {
	if s == nil {
		return
	}
	for service := range s.Services() {
		if service.ConsumeUsed() {
			i.of(partOf(service.Name)).used = now
		}
	}
	for p, w := range i.wants { // those that were looked up while everything was watched
		if !w.watched && w.busy == nil && !i.inUse(w, now) {
			delete(i.wants, p)
		}
	}
}

func (i *interest) inUse(w *want, now time.Time) bool {
	return w.pinned || w.holds > 0 || now.Sub(w.used) < i.idle
}

// narrow drops from the view what nobody has used for long, now that everything is not
// to be watched any more, and returns the ranges of what stays. It runs between two
// changes of the view.
func (c *Catalog) narrow(now time.Time) []reflector.Range {
	i := c.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	before := c.snapshot()
	i.note(before, now)
	if w, ok := i.wants[everything]; ok && i.inUse(w, now) {
		return []reflector.Range{c.rangeOf(everything)} // somebody wants it after all
	}
	next := before.Without(everything)
	var ranges []reflector.Range
	var stay []discovery.Scope
	for p, w := range i.wants {
		if w.watched = p != everything && i.inUse(w, now); !w.watched {
			continue
		}
		ranges, stay = append(ranges, c.rangeOf(p)), append(stay, p)
		next = next.With(before.Only(p), false)
	}
	i.whole.Store(false)
	c.publishLess(next, stay)
	return ranges
}

// drop drops a part from the view, and returns no range; its own if somebody has used it
// meanwhile. It runs between two changes of the view.
func (c *Catalog) drop(p discovery.Scope, now time.Time) []reflector.Range {
	i := c.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	i.note(c.snapshot(), now)
	w, ok := i.wants[p]
	if !ok || !w.watched || i.inUse(w, now) {
		return []reflector.Range{c.rangeOf(p)}
	}
	delete(i.wants, p)
	var stay []discovery.Scope
	for other, w := range i.wants {
		if w.watched {
			stay = append(stay, other)
		}
	}
	c.publishLess(c.snapshot().Without(p), stay)
	return nil
}
