package claim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/heartbeat"
	"disc/discovery/reflector"
	"disc/discovery/view"
)

const (
	// claimTimeout bounds a claim that does not wait for a slot.
	claimTimeout = 10 * time.Second
	// maxConcurrent bounds how many of an agent's callers ask etcd for a slot at once.
	maxConcurrent = 16
	// wakeJitter is within which time agents whose callers wait ask for a slot that has
	// become free.
	wakeJitter = 10 * time.Millisecond
)

// View is the catalog, as far as claims look at it.
type View interface {
	// View returns the newest snapshot, or an ErrUnavailable that says why there is none.
	View() (view.View, error)
	// Changed returns a channel that is closed at the next change of a service.
	Changed(service string) <-chan struct{}
	// Ensure makes the view have services that are not watched yet.
	Ensure(ctx context.Context, parts ...discovery.Scope) error
	// Retain keeps services in the view until release is called.
	Retain(parts ...discovery.Scope) (release func())
}

// Claims claim slots of instances. What is claimed is held by a [Manager].
type Claims struct {
	*Manager
	view      View
	slots     *slotStore
	reflector *reflector.Reflector
	heartbeat heartbeat.Heartbeat // of the follower
	start     func()              // the following

	attempts    chan struct{}     // of those who ask etcd at the same time
	started     chan struct{}     // closed when a claim was asked for
	subscribing sync.Mutex        // one service at a time begins or ends to be followed
	usages      map[string]*usage // services that are followed, by folded name; guarded by slots.mu
}

// NewClaims returns claims that are held by h, on the instances of view.
func NewClaims(h *Manager, view View) *Claims {
	s := &slotStore{keys: h.keys, services: map[string]*occupancy{}}
	c := &Claims{
		Manager: h, view: view, slots: s, started: make(chan struct{}), attempts: make(chan struct{}, maxConcurrent),
		usages: map[string]*usage{},
	}
	c.reflector = reflector.New(h.client, s, reflector.Options{Epoch: h.keys.Epoch(), MakeEpoch: true, ProgressInterval: h.quiet, Heartbeat: &c.heartbeat, Logger: h.log})
	c.start = sync.OnceFunc(func() { close(c.started) })
	return c
}

// ClaimOptions say how a slot is asked for.
type ClaimOptions struct {
	Wait       time.Duration // how long to wait for one that is free; 0: do not
	TTL        time.Duration // how long it lasts without being renewed; 0: until it is released
	PreferZone string        // instances of this zone first
}

// instanceSlot is the instance of a claim.
type instanceSlot struct {
	view    View
	slots   *slotStore
	entry   *view.Entry
	created int64 // its incarnation
	slot    int
}

// gone reports whether the instance is not there any more, or is another one.
func (c *instanceSlot) gone() bool {
	view, err := c.view.View()
	if err != nil {
		return false // nothing is known
	}
	s, ok := view.Snapshot.Service(c.entry.Service)
	return ok && s.Incarnation(c.entry.ID) != c.created
}

// Endpoint returns the instance of a claim, as it was when it was claimed.
func (g *Grant) Endpoint() discovery.Endpoint { return g.claim.entry.Endpoint() }

// Slot returns which slot of the instance is claimed, from 0.
func (g *Grant) Slot() int { return g.claim.slot }

// claimRecord is the value of a claim's key, for operators.
type claimRecord struct {
	mark
	Node  string    `json:"node,omitempty"` // the claimant's
	Asked time.Time `json:"asked"`
}

// errFull: no instance has a free slot.
var errFull = errors.New("no instance that is healthy has a free slot")

// Heartbeat shows whether Run is stuck.
func (c *Claims) Heartbeat() *heartbeat.Heartbeat { return &c.heartbeat }

// Claim takes a free slot of a healthy instance of a service. The errors are ErrInvalid,
// ErrNotFound (there is no such service), ErrUnavailable (nothing is free, or the agent
// has no view or no session), that of ctx, or what etcd says.
func (c *Claims) Claim(ctx context.Context, service string, o ClaimOptions) (*Grant, error) {
	if o.Wait < 0 || o.TTL < 0 {
		return nil, discovery.Errorf(discovery.ErrInvalid, "a claim's wait and ttl are at least 0")
	}
	if err := discovery.ValidateService(service); err != nil {
		return nil, err
	}
	if err := c.view.Ensure(ctx, discovery.Scope{Service: discovery.FoldName(service)}); err != nil {
		return nil, err
	}
	if _, err := c.service(service); err != nil {
		return nil, err
	}
	if err := c.subscribe(ctx, service); err != nil {
		return nil, err
	}
	until := time.Now().Add(o.Wait)
	g, err := c.claimNow(ctx, service, o)
	if o.Wait > 0 && retryable(err) && ctx.Err() == nil {
		waiting, cancel := context.WithDeadline(ctx, until)
		defer cancel()
		g, err = c.waitForSlot(waiting, service, o)
	}
	if errors.Is(err, errFull) && ctx.Err() == nil {
		err = discovery.Errorf(discovery.ErrUnavailable, "claim %s: %v; try again, or wait for longer", service, errFull)
	}
	return g, err
}

func (c *Claims) service(name string) (*view.Service, error) {
	view, err := c.view.View()
	if err != nil {
		return nil, err
	}
	s, ok := view.Snapshot.Service(name)
	if !ok {
		return nil, discovery.Errorf(discovery.ErrNotFound, "service %q is not known; see 'disc list'", name)
	}
	return s, nil
}

// retryable reports whether a claim that failed is worth to be tried again.
func retryable(err error) bool {
	return err != nil && !refused(err) && !errors.Is(err, discovery.ErrNotFound) && !errors.Is(err, discovery.ErrInvalid)
}

// claimNow takes a slot, or returns errFull when none is free.
func (c *Claims) claimNow(ctx context.Context, service string, o ClaimOptions) (*Grant, error) {
	select {
	case c.attempts <- struct{}{}:
		defer func() { <-c.attempts }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	g, err := c.enter(&Grant{kind: KindClaim, name: service, ttl: o.TTL})
	if err != nil {
		return nil, err
	}
	won, fence, err := c.acquire(ctx, g, service, o.PreferZone)
	if err != nil {
		c.mu.Lock()
		c.forget(g)
		c.mu.Unlock()
		signal(c.orphans)
		return nil, err
	}
	c.mu.Lock()
	g.key, g.fence = won.key, fence
	g.claim = &instanceSlot{c.view, c.slots, won.Entry, won.created, won.slot}
	c.mu.Unlock()
	if err := c.grant(g); err != nil {
		c.mu.Lock()
		c.forget(g)
		c.mu.Unlock()
		c.remove(ctx, g)
		return nil, err
	}
	return g, nil
}

// acquire tries candidates until it has a slot or none is free. It begins with what is
// known of the slots; what is taken after an attempt is known from that.
func (c *Claims) acquire(ctx context.Context, g *Grant, service, zone string) (won *candidate, fence int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	value, err := json.Marshal(claimRecord{mark{g.id}, c.node, time.Now().UTC()})
	if err != nil {
		return nil, 0, fmt.Errorf("claim %s: %w", service, err)
	}
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
		r, err := c.transact(ctx, KindClaim, func(t clientv3.Txn) clientv3.Txn {
			return c.buildAttempt(t, chosen, string(value), g.lease, c.keys.ClaimsOf(service))
		})
		if err != nil {
			c.resolveReservations(service, chosen, nil, 0)
			if errors.Is(err, rpctypes.ErrLeaseNotFound) {
				c.session.Verify(g.lease)
				return nil, 0, g.unavailable(sessionLost)
			}
			return nil, 0, fmt.Errorf("claim %s: %w", service, err)
		}
		won, read = c.parseAttempt(r, chosen)
		c.resolveReservations(service, chosen, won, r.Header.Revision)
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

// reserve chooses candidates, and notes that the first is being asked for. read is what
// is taken, if that was read; else what the watch says counts.
func (c *Claims) reserve(s *view.Service, read *occupancy, zone string) []candidate {
	c.slots.mu.Lock()
	defer c.slots.mu.Unlock()
	t := c.slots.service(s.Name)
	known := t
	if read != nil {
		read.reserved = t.reserved
		known = read
	}
	chosen := c.choose(c.candidates(s, known), known, zone)
	if len(chosen) > 0 && contention(chosen[0], t) == 0 {
		t.reserved[chosen[0].key] = 0
		chosen[0].reserved = true
	}
	return chosen
}

// resolveReservations ends the reservation of the first candidate, and notes which has been won.
func (c *Claims) resolveReservations(service string, chosen []candidate, won *candidate, revision int64) {
	if len(chosen) > 0 && chosen[0].reserved && won != &chosen[0] {
		c.slots.settle(service, chosen[0].key, 0)
	}
	if won != nil {
		c.slots.settle(service, won.key, revision)
	}
}
