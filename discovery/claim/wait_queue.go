package claim

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"disc/discovery/life"
	"disc/discovery/retry"
)

// waitForSlot claims a slot once one is free and no caller of this agent has waited longer,
// until ctx ends. It then returns why it got none: why is the reason until the first attempt, and an
// attempt that the end of ctx cuts off has none of its own.
func (c *Claims) waitForSlot(ctx context.Context, service string, r Request, why error) (*Grant, error) {
	defer c.issuer.CountWaiting()()
	me := retry.NewSignal()
	c.enqueue(service, me)
	defer c.dequeue(service, me)
	var backoff retry.Backoff
	for {
		if err := c.awaitTurn(ctx, service, me, why); err != nil {
			return nil, err
		}
		g, err := c.claimNow(ctx, service, r)
		if ctx.Err() == nil || life.Uncertain(err) {
			why = err
		}
		switch {
		case err == nil:
			return g, nil
		case ctx.Err() != nil:
			return nil, why
		case errors.Is(err, errFull):
			backoff.Reset()
		case !retryable(err):
			return nil, err
		default:
			backoff.Failed()
			if backoff.Wait(ctx) != nil {
				return nil, why
			}
		}
	}
}

// enqueue appends a caller to those that wait for a slot of a service.
func (c *Claims) enqueue(service string, me retry.Signal) {
	c.slots.mu.Lock()
	defer c.slots.mu.Unlock()
	o := c.slots.service(service)
	o.waiters = append(o.waiters, me)
	o.wake()
}

// dequeue removes a caller from those that wait, and wakes the first of the others.
func (c *Claims) dequeue(service string, me retry.Signal) {
	c.slots.mu.Lock()
	defer c.slots.mu.Unlock()
	o := c.slots.service(service)
	o.waiters = slices.DeleteFunc(o.waiters, func(w retry.Signal) bool { return w == me })
	o.wake()
}

// awaitTurn waits until the caller is the first in the queue and a slot is free, and then
// for up to wakeJitter, so that agents do not all ask at once. When ctx ends it returns errFull, or
// why the caller got no slot that was free.
func (c *Claims) awaitTurn(ctx context.Context, service string, me retry.Signal, why error) error {
	for {
		changed := c.view.Changed(service)
		first, free := c.queuePosition(service, me)
		if first && free {
			select {
			case <-time.After(rand.N(wakeJitter)):
				return nil
			case <-ctx.Done():
				return why
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

// queuePosition reports whether a caller is the first in the queue, and if so whether a slot
// is free.
func (c *Claims) queuePosition(service string, me retry.Signal) (first, free bool) {
	s, err := c.service(service)
	c.slots.mu.Lock()
	defer c.slots.mu.Unlock()
	o := c.slots.service(service)
	if err != nil || o.waiters[0] != me {
		return o.waiters[0] == me, false
	}
	chosen := c.choose(c.candidates(s, o), o, "")
	return true, len(chosen) > 0 && !o.isReserved(chosen[0].key)
}
