package claim

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"disc/discovery/retry"
)

// waitForSlot tries again whenever a slot has become free and all who have waited for longer
// have one for themselves, until ctx ends.
func (c *Claims) waitForSlot(ctx context.Context, service string, o ClaimOptions) (*Grant, error) {
	c.metrics.waiting.WithLabelValues(string(KindClaim)).Inc()
	defer c.metrics.waiting.WithLabelValues(string(KindClaim)).Dec()
	me := make(chan struct{}, 1)
	c.editQueue(service, func(all []chan struct{}) []chan struct{} { return append(all, me) })
	defer c.editQueue(service, func(all []chan struct{}) []chan struct{} {
		return slices.DeleteFunc(all, func(w chan struct{}) bool { return w == me })
	})
	var retry retry.Backoff
	for {
		if err := c.awaitTurn(ctx, service, me); err != nil {
			return nil, err
		}
		g, err := c.claimNow(ctx, service, o)
		switch {
		case err == nil:
			return g, nil
		case ctx.Err() != nil:
			return nil, errFull
		case errors.Is(err, errFull):
			retry.Reset()
		case !retryable(err):
			return nil, err
		default:
			retry.Failed()
			if retry.Wait(ctx) != nil {
				return nil, err
			}
		}
	}
}

// editQueue changes who waits for a slot of a service, and wakes the first: it may be
// another now.
func (c *Claims) editQueue(service string, change func([]chan struct{}) []chan struct{}) {
	c.slots.mu.Lock()
	defer c.slots.mu.Unlock()
	t := c.slots.service(service)
	t.waiters = change(t.waiters)
	t.wake()
}

// awaitTurn waits until the caller is the first who waits, and a slot is free. Agents do not
// all come at once.
func (c *Claims) awaitTurn(ctx context.Context, service string, me chan struct{}) error {
	for {
		changed := c.view.Changed(service)
		first, free := c.queuePosition(service, me)
		if first && free {
			select {
			case <-time.After(rand.N(wakeJitter)):
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

// queuePosition returns whether a caller has waited longest, and whether a slot is free.
func (c *Claims) queuePosition(service string, me chan struct{}) (first, free bool) {
	s, err := c.service(service)
	c.slots.mu.Lock()
	defer c.slots.mu.Unlock()
	t := c.slots.service(service)
	if err != nil || t.waiters[0] != me {
		return t.waiters[0] == me, false
	}
	chosen := c.choose(c.candidates(s, t), t, "")
	return true, len(chosen) > 0 && contention(chosen[0], t) == 0
}
