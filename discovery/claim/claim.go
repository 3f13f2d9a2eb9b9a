package claim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/etcd"
	"disc/discovery/heartbeat"
	"disc/discovery/life"
	"disc/discovery/lock"
	"disc/discovery/reflector"
	"disc/discovery/retry"
	"disc/discovery/view"
)

const (
	// claimTimeout bounds a claim that does not wait for a slot.
	claimTimeout = 10 * time.Second
	// uncertainTime bounds the time for which a claim is tried again while it is not known whether
	// etcd goes on: contact breaks for a moment whenever the session's stream is opened again.
	uncertainTime = 3 * time.Second
	// maxConcurrent bounds the claims of one agent that are sent to etcd at once.
	maxConcurrent = 16
	// wakeJitter bounds the random time that an agent waits before it asks for a slot that
	// has become free.
	wakeJitter = 10 * time.Millisecond
)

// View is the part of the catalog that claims use.
type View interface {
	// View returns the newest snapshot, or an ErrUnavailable that says why there is none.
	View() (view.View, error)
	// Changed returns a channel that is closed at the next change of a service.
	Changed(service string) <-chan struct{}
	// Ensure makes the view watch scopes that it does not watch yet.
	Ensure(ctx context.Context, scopes ...discovery.Scope) error
	// Retain keeps scopes in the view until release is called.
	Retain(scopes ...discovery.Scope) (release func())
}

// Options are the optional settings of claims.
type Options struct {
	Node             string               // the agent's node, stored with each claim for operators
	ProgressInterval func() time.Duration // see [reflector.Options]
	Logger           *slog.Logger         // default: discard
}

// Claims grants slots of instances. It is safe for concurrent use.
type Claims struct {
	client    *clientv3.Client
	keys      discovery.Keys
	issuer    *lock.Issuer
	view      View
	node      string
	slots     *slotStore
	log       *slog.Logger
	reflector *reflector.Reflector // copies the claims of subscribed services into slots
	heartbeat heartbeat.Heartbeat  // of the reflector

	start       func()            // closes started
	started     chan struct{}     // closed when the first claim is requested
	attempts    chan struct{}     // semaphore of maxConcurrent
	subscribing sync.Mutex        // held while a service is subscribed or unsubscribed
	usages      map[string]*usage // subscribed services by folded name; guarded by slots.mu
}

// New returns claims of the instances in view, granted under the session of locks.
func New(client *clientv3.Client, keys discovery.Keys, locks *lock.Manager, view View, o Options) *Claims {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Claims{
		client: client, keys: keys, issuer: locks.NewIssuer("claim", keys.Claims()), view: view, node: o.Node, log: o.Logger,
		slots: newSlotStore(keys), started: make(chan struct{}), attempts: make(chan struct{}, maxConcurrent),
		usages: map[string]*usage{},
	}
	c.reflector = reflector.New(client, c.slots, reflector.Options{Epoch: keys.Epoch(), Life: locks.Life(), Forbidden: c.dropForbidden, ProgressInterval: o.ProgressInterval, Heartbeat: &c.heartbeat, Logger: o.Logger})
	c.start = sync.OnceFunc(func() { close(c.started) })
	return c
}

// Heartbeat returns the heartbeat of Run, by which a watchdog sees whether Run is stuck.
func (c *Claims) Heartbeat() *heartbeat.Heartbeat { return &c.heartbeat }

// Request says how a slot is requested.
type Request struct {
	Wait       time.Duration // how long to wait for a free slot; 0: fail at once
	TTL        time.Duration // how long the claim lasts without a renewal; 0: until it is released
	PreferZone string        // instances of this zone are tried first
}

// errFull is returned when no instance has a free slot.
var errFull = errors.New("no healthy instance has a free slot")

// Claim claims a free slot of a healthy instance of a service. The errors are ErrInvalid,
// ErrNotFound (the view has no such service), ErrUnavailable (no slot is free, or the agent
// has no view or no session), ErrStorageFull or ErrBusy (see [lock.Issuer.Admit]), the error of
// ctx, or that of etcd. Once ctx has ended, no claim is
// returned.
func (c *Claims) Claim(ctx context.Context, service string, r Request) (*Grant, error) {
	if r.Wait < 0 || r.TTL < 0 {
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
	if err := c.issuer.Admit(ctx); err != nil {
		return nil, fmt.Errorf("claim %s: %w", service, err)
	}
	deadline := time.Now().Add(r.Wait)
	g, err := c.claimSoon(ctx, service, r)
	if r.Wait > 0 && retryable(err) && ctx.Err() == nil {
		waiting, cancel := context.WithDeadline(ctx, deadline)
		defer cancel()
		g, err = c.waitForSlot(waiting, service, r, err)
	}
	if err == nil && ctx.Err() != nil { // the caller has gone in the moment of the grant
		_, _ = c.Release(ctx, g.ID()) // on an error it is removed as an orphan
		return nil, ctx.Err()
	}
	if errors.Is(err, errFull) && ctx.Err() == nil {
		err = discovery.Errorf(discovery.ErrUnavailable, "claim %s: %v; try again, or wait for longer", service, errFull)
	}
	return g, err
}

// claimSoon claims a slot now or, while it is not known whether etcd goes on, within uncertainTime.
func (c *Claims) claimSoon(ctx context.Context, service string, r Request) (*Grant, error) {
	trying, cancel := context.WithTimeout(ctx, uncertainTime)
	defer cancel()
	for backoff := (retry.Backoff{}); ; backoff.Failed() {
		g, err := c.claimNow(ctx, service, r)
		if !life.Uncertain(err) || backoff.Wait(trying) != nil {
			return g, err
		}
	}
}

// Renew restarts the TTL of a claim; see [lock.Issuer.Renew].
func (c *Claims) Renew(id string) (*Grant, error) {
	g, err := c.issuer.Renew(id)
	if err != nil {
		return nil, err
	}
	return newGrant(g), nil
}

// Release releases a claim; see [lock.Issuer.Release].
func (c *Claims) Release(ctx context.Context, id string) (done bool, err error) {
	return c.issuer.Release(ctx, id)
}

// service returns a service of the view, or an ErrNotFound.
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

// retryable reports whether a claim that failed may succeed when it is tried again.
func retryable(err error) bool {
	return err != nil && !etcd.Refused(err).Final() && !errors.Is(err, discovery.ErrNotFound) && !errors.Is(err, discovery.ErrInvalid)
}

// Grant is a claimed slot of an instance. Its name is that of the service.
type Grant struct {
	*lock.Grant
	slot *instanceSlot
}

func newGrant(g *lock.Grant) *Grant { return &Grant{g, g.Resource().(*instanceSlot)} }

// Endpoint returns the instance, as it was when it was claimed.
func (g *Grant) Endpoint() discovery.Endpoint { return g.slot.entry.Endpoint() }

// Slot returns the number of the slot of the instance, from 0.
func (g *Grant) Slot() int { return g.slot.number }

// instanceSlot is the slot of an instance that is claimed. It is the [lock.Resource] of a
// claim.
type instanceSlot struct {
	view        View
	slots       *slotStore
	entry       *view.Entry
	incarnation int64 // of the instance
	number      int
}

// Gone implements [lock.Resource]: the slot is gone when the view has no instance of the id,
// or another incarnation of it.
func (s *instanceSlot) Gone() error {
	view, err := s.view.View()
	if err != nil {
		return nil // without a view the instance may still be there
	}
	service, ok := view.Snapshot.Service(s.entry.Service)
	if ok && service.Incarnation(s.entry.ID) != s.incarnation {
		return fmt.Errorf("instance %q is gone", s.entry.ID)
	}
	return nil
}

// Released implements [lock.Resource].
func (s *instanceSlot) Released(key string, created, revision int64) {
	s.slots.release(key, created, revision)
}
