package catalog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"disc/discovery"
	"disc/discovery/etcd"
	"disc/discovery/reflector"
	"disc/discovery/retry"
)

// WatchMode selects what a catalog watches of the namespace.
type WatchMode string

// The modes.
const (
	WatchAll    WatchMode = "all"  // the whole namespace
	WatchAuto   WatchMode = "auto" // as WatchAll in a small fleet, as WatchLazy in a large one
	WatchLazy   WatchMode = "lazy" // the services that are looked up, while they are used
	WatchListed WatchMode = "list" // the services of Options.Services
)

// Bounds of subscriptions.
const (
	idleTimeout   = 10 * time.Minute // after the last use, until a scope is not watched any more
	ensureTimeout = 3 * time.Second  // of the first read of a scope
	checkInterval = time.Minute      // between two checks for idle scopes and of the fleet's size

	// The interval between checks grows by one checkInterval for each so many nodes.
	nodesPerInterval = 1000

	// WatchAuto changes to single scopes above manyNodes, and back below fewNodes.
	manyNodes = 300
	fewNodes  = 200
)

// everything is the scope of the whole namespace.
var everything = discovery.Scope{}

// subscriptions are the scopes that are watched or are to be watched.
type subscriptions struct {
	idleTimeout, checkInterval time.Duration // the constants, or shorter ones in tests

	nodeCount      atomic.Int64 // agents in the fleet, when they were last counted
	countForbidden atomic.Bool  // etcd forbids to count them, and the log says so

	mu      sync.Mutex
	byScope map[discovery.Scope]*subscription
	sized   bool         // with WatchAuto: the fleet was counted once
	wake    retry.Signal // a scope may be retained and not watched
}

// subscription is one scope that is watched or is to be watched.
type subscription struct {
	pinned    bool // never dropped for being idle
	retains   int  // calls of Retain that are not released
	lastUsed  time.Time
	watched   bool          // by itself; every scope is while the whole namespace is
	forbidden error         // why etcd does not permit that; nil: it does, as far as is known
	starting  chan struct{} // closed when the current attempt to watch it ends; nil: there is none
}

func newSubscriptions(o Options) *subscriptions {
	subs := &subscriptions{idleTimeout: idleTimeout, checkInterval: checkInterval, byScope: map[discovery.Scope]*subscription{}, wake: retry.NewSignal()}
	if o.Watch == WatchAll {
		subs.get(everything).pinned = true
		return subs
	}
	for _, name := range o.Services {
		subs.get(discovery.Scope{Service: discovery.FoldName(name)}).pinned = true
	}
	if o.Node != "" {
		subs.get(discovery.Scope{Node: o.Node}).pinned = true
	}
	return subs
}

// get returns the subscription of a scope, which it makes if there is none. The caller holds
// mu.
func (subs *subscriptions) get(scope discovery.Scope) *subscription {
	sub, ok := subs.byScope[scope]
	if !ok {
		sub = &subscription{lastUsed: time.Now()}
		subs.byScope[scope] = sub
	}
	return sub
}

// serviceScope returns the scope of a service; "" is the whole namespace.
func serviceScope(service string) discovery.Scope {
	return discovery.Scope{Service: discovery.FoldName(service)}
}

func (c *Catalog) scopeRange(scope discovery.Scope) reflector.Range {
	from, to := c.keys.ScopeRange(scope)
	return reflector.Range{From: from, To: to}
}

// Has reports whether the view has the scopes, as far as they exist, so that Ensure returns
// at once.
func (c *Catalog) Has(scopes ...discovery.Scope) bool {
	for _, scope := range scopes {
		if !c.has(scope) {
			return false
		}
	}
	return true
}

func (c *Catalog) has(scope discovery.Scope) bool {
	s := c.state.Load()
	if s != nil && s.whole && scope != everything {
		return true
	}
	if s != nil && scope != everything && s.snapshot.Has(scope) {
		c.subscriptions.touchNode(scope)
		return true
	}
	// With WatchListed, no other scope can be watched.
	return c.isKnown(scope) || c.options.Watch == WatchListed && !c.subscriptions.exists(scope)
}

// Ensure makes the view have the scopes, as far as they exist. It returns at once for those
// that are watched, and reads the others. It fails with an ErrUnavailable when etcd does
// not answer, or ctx ends.
func (c *Catalog) Ensure(ctx context.Context, scopes ...discovery.Scope) error {
	for _, scope := range scopes {
		if c.has(scope) {
			continue
		}
		if err := c.Health().Err; err != nil {
			return discovery.Errorf(discovery.ErrUnavailable, "%s is not watched yet, and etcd does not answer: %v", describeScope(scope), err)
		}
		_, err := c.missing.has(scope)
		if err == nil {
			err = c.ensure(ctx, scope)
		}
		if err != nil {
			return discovery.Errorf(discovery.ErrUnavailable, "%s cannot be read: %s", describeScope(scope), retry.PlainText(err))
		}
	}
	return nil
}

func (c *Catalog) ensure(ctx context.Context, scope discovery.Scope) error {
	ctx, cancel := context.WithTimeoutCause(ctx, ensureTimeout, fmt.Errorf("etcd has not answered within %v", ensureTimeout))
	defer cancel()
	return c.subscribe(ctx, scope)
}

func describeScope(scope discovery.Scope) string {
	switch {
	case scope.Service != "":
		return fmt.Sprintf("service %q", scope.Service)
	case scope.Node != "":
		return fmt.Sprintf("node %q", scope.Node)
	}
	return "the whole namespace"
}

// touchNode records a use of a node's scope. The view records the lookups of services.
func (subs *subscriptions) touchNode(scope discovery.Scope) {
	if scope.Node == "" {
		return
	}
	subs.mu.Lock()
	defer subs.mu.Unlock()
	subs.get(scope).lastUsed = time.Now()
}

// isKnown reports whether a scope is watched by itself, or was missing a moment ago. It counts
// as a use of the scope.
func (c *Catalog) isKnown(scope discovery.Scope) bool {
	subs := c.subscriptions
	subs.mu.Lock()
	defer subs.mu.Unlock()
	if sub, ok := subs.byScope[scope]; ok {
		sub.lastUsed = time.Now()
		return sub.watched
	}
	missing, forbidden := c.missing.has(scope)
	return missing && forbidden == nil
}

// exists reports whether there is a subscription of a scope.
func (subs *subscriptions) exists(scope discovery.Scope) bool {
	subs.mu.Lock()
	defer subs.mu.Unlock()
	_, ok := subs.byScope[scope]
	return ok
}

// Retain has the scopes watched, also those that do not exist yet, until release is called.
// It does not wait. With WatchListed, the whole namespace is what is listed.
func (c *Catalog) Retain(scopes ...discovery.Scope) (release func()) {
	subs := c.subscriptions
	subs.mu.Lock()
	defer subs.mu.Unlock()
	var retained []*subscription
	for _, scope := range scopes {
		if scope == everything && c.options.Watch == WatchListed {
			continue
		}
		sub := subs.get(scope)
		sub.retains++
		retained = append(retained, sub)
	}
	subs.wake.Notify()
	return sync.OnceFunc(func() {
		subs.mu.Lock()
		defer subs.mu.Unlock()
		for _, sub := range retained {
			sub.retains--
			sub.lastUsed = time.Now()
		}
	})
}

// subscribe starts to watch a scope, if it has keys, or is retained or pinned. Concurrent
// calls share one attempt.
func (c *Catalog) subscribe(ctx context.Context, scope discovery.Scope) error {
	for {
		sub, others, mine := c.start(scope)
		if mine {
			return c.startWatch(ctx, scope, sub)
		}
		if others == nil {
			return nil
		}
		select {
		case <-others:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if c.isKnown(scope) {
			return nil
		}
		if _, forbidden := c.missing.has(scope); forbidden != nil {
			return forbidden
		}
	}
}

// start reports whether the caller is to start the watch of a scope. If not, another caller
// does, until the channel is closed; with a nil channel the scope is watched already.
func (c *Catalog) start(scope discovery.Scope) (sub *subscription, others <-chan struct{}, mine bool) {
	subs := c.subscriptions
	subs.mu.Lock()
	defer subs.mu.Unlock()
	sub = subs.get(scope)
	if sub.watched || c.isWhole() {
		return sub, nil, false
	}
	if sub.starting != nil {
		return sub, sub.starting, false
	}
	sub.starting = make(chan struct{})
	return sub, sub.starting, true
}

// startWatch has the reflector watch a scope. A scope without keys is watched only if it is
// retained or pinned.
func (c *Catalog) startWatch(ctx context.Context, scope discovery.Scope, sub *subscription) error {
	subs := c.subscriptions
	subs.mu.Lock()
	expected := sub.retains > 0 || sub.pinned || scope == everything
	subs.mu.Unlock()
	var err error
	select {
	case <-c.started:
		if r := c.reflector.Load(); expected {
			_, err = r.Add(ctx, c.scopeRange(scope), true)
		} else {
			err = c.addBounded(ctx, r, scope)
		}
	case <-ctx.Done():
		err = errors.New("the catalog is not running")
	}
	subs.mu.Lock()
	defer subs.mu.Unlock()
	close(sub.starting)
	sub.starting = nil
	if !sub.watched && sub.retains == 0 && !sub.pinned {
		delete(subs.byScope, scope)
	}
	if etcd.Refused(err) == etcd.RefusedPermission {
		err = c.forbiddenReason(scope)
		sub.forbidden = err
		c.missing.add(scope, err, time.Now())
	}
	return err
}

// setWatched records that a scope is watched, and that etcd permits it and what is in it.
func (subs *subscriptions) setWatched(scope discovery.Scope) {
	subs.mu.Lock()
	defer subs.mu.Unlock()
	sub := subs.get(scope)
	sub.watched, sub.forbidden = true, nil
	if scope == everything {
		for _, other := range subs.byScope {
			other.forbidden = nil
		}
	}
}
