package claim

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"disc/discovery/retry"
)

// await tries again whenever a slot has become free and all who have waited for longer
// have one for themselves, until ctx ends.
func (c *Claims) await(ctx context.Context, service string, o ClaimOptions) (*Grant, error) {
	c.metrics.waiting.WithLabelValues(string(KindClaim)).Inc()
	defer c.metrics.waiting.WithLabelValues(string(KindClaim)).Dec()
	me := make(chan struct{}, 1)
	c.queue(service, func(all []chan struct{}) []chan struct{} { return append(all, me) })
	defer c.queue(service, func(all []chan struct{}) []chan struct{} {
		return slices.DeleteFunc(all, func(w chan struct{}) bool { return w == me })
	})
	var retry retry.Backoff
	for {
		if err := c.turn(ctx, service, me); err != nil {
			return nil, err
		}
		g, err := c.try(ctx, service, o)
		switch {
		case err == nil:
			return g, nil
		case ctx.Err() != nil:
			return nil, errFull
		case errors.Is(err, errFull):
			retry.Reset()
		case !waitable(err):
			return nil, err
		default:
			retry.Failed()
			if retry.Wait(ctx) != nil {
				return nil, err
			}
		}
	}
}

// queue changes who waits for a slot of a service, and wakes the first: it may be
// another now.
func (c *Claims) queue(service string, change func([]chan struct{}) []chan struct{}) {
	c.slots.mu.Lock()
	defer c.slots.mu.Unlock()
	t := c.slots.of(service)
	t.queue = change(t.queue)
	t.wake()
}

// turn waits until the caller is the first who waits, and a slot is free. Agents do not
// all come at once.
func (c *Claims) turn(ctx context.Context, service string, me chan struct{}) error {
	for {
		changed := c.view.Changed(service)
		first, free := c.outlook(service, me)
		if first && free {
			select {
			case <-time.After(rand.N(spread)):
				return nil
			case <-ctx.Done():
				return errFull
			}
		}
		if !first {
			changed = nil
		}
		select {
		case <-changed:
		case <-me:
		case <-ctx.Done():
			return errFull
		}
	}
}

// outlook returns whether a caller has waited longest, and whether a slot is free.
func (c *Claims) outlook(service string, me chan struct{}) (first, free bool) {
	s, err := c.service(service)
	c.slots.mu.Lock()
	defer c.slots.mu.Unlock()
	t := c.slots.of(service)
	if err != nil || t.queue[0] != me {
		return t.queue[0] == me, false
	}
	chosen := c.choose(c.candidates(s, t), t, "")
	return true, len(chosen) > 0 && wanted(chosen[0], t) == 0
}
