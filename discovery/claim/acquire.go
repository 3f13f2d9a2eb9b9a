package claim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/lock"
	"disc/discovery/view"
)

// record is the value of a claim's key, for operators.
type record struct {
	lock.KeyOwner
	Node  string    `json:"node,omitempty"` // of the claimant's agent
	Asked time.Time `json:"asked"`
}

// claimNow claims a slot, or returns errFull when none is free.
func (c *Claims) claimNow(ctx context.Context, service string, r Request) (*Grant, error) {
	select {
	case c.attempts <- struct{}{}:
		defer func() { <-c.attempts }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	pending, err := c.issuer.Request(ctx, service, r.TTL)
	if err != nil {
		return nil, err
	}
	won, created, err := c.acquire(ctx, pending, service, r.PreferZone)
	if err != nil {
		pending.Abandon()
		return nil, err
	}
	g, err := pending.Confirm(ctx, won.key, created, &instanceSlot{c.view, c.slots, won.Entry, won.incarnation, won.slot})
	if err != nil {
		return nil, err
	}
	return newGrant(g), nil
}

// acquire tries candidates until it has got a slot, or none is free. It begins with what the
// watch has shown of the slots; after an attempt that failed it uses what that one has read.
func (c *Claims) acquire(ctx context.Context, pending *lock.PendingGrant, service, zone string) (won *candidate, created int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	asked := time.Now().UTC()
	var read *occupancy
	for round := 0; ; round++ {
		s, err := c.service(service)
		if err != nil {
			return nil, 0, err
		}
		chosen := c.reserve(s, read, zone)
		if len(chosen) == 0 && read != nil {
			return nil, 0, errFull
		}
		r, err := pending.Transact(ctx, func(base int64) clientv3.Op {
			value := lock.EncodeRecord(record{lock.KeyOwner{ID: pending.ID(), Base: base}, c.node, asked})
			return c.buildAttempt(chosen, value, pending.Lease(), c.keys.ClaimsOf(service))
		})
		if err != nil {
			c.resolve(service, chosen, nil, 0)
			if errors.Is(err, discovery.ErrUnavailable) {
				return nil, 0, err // the session is lost, or nothing is granted for the moment
			}
			return nil, 0, fmt.Errorf("claim %s: %w", service, err)
		}
		won, read = c.parseAttempt(r, chosen)
		c.resolve(service, chosen, won, r.Header.Revision)
		if won != nil {
			return won, r.Header.Revision, nil
		}
		select {
		case <-time.After(rand.N(time.Millisecond << min(round, 6))):
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

// reserve chooses candidates and reserves the slot of the first, so that the agent's other
// callers prefer other slots. It relies on read, if that is not nil, otherwise on the watch.
func (c *Claims) reserve(s *view.Service, read *occupancy, zone string) []candidate {
	c.slots.mu.Lock()
	defer c.slots.mu.Unlock()
	watched := c.slots.service(s.Name)
	known := watched
	if read != nil {
		read.reserved = watched.reserved
		known = read
	}
	chosen := c.choose(c.candidates(s, known), known, zone)
	if len(chosen) > 0 && !watched.isReserved(chosen[0].key) {
		watched.reserved[chosen[0].key] = 0
		chosen[0].reserved = true
	}
	return chosen
}

// resolve ends the reservation of the first candidate unless it has won, and records the
// slot that was won at a revision.
func (c *Claims) resolve(service string, chosen []candidate, won *candidate, revision int64) {
	if len(chosen) > 0 && chosen[0].reserved && won != &chosen[0] {
		c.slots.cancelReservation(service, chosen[0].key)
	}
	if won != nil {
		c.slots.confirmReservation(service, won.key, revision)
	}
}
