package catalog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"disc/discovery"
	"disc/discovery/reflector"
)

// WatchMode is what of the namespace is watched.
type WatchMode string

// The modes.
const (
	WatchAll    WatchMode = "all"  // the whole namespace
	WatchAuto   WatchMode = "auto" // all of a small fleet; of a large one, by interest
	WatchLazy   WatchMode = "lazy" // by interest: the services that are asked for
	WatchListed WatchMode = "list" // the services of Options.Services
)

// Bounds of watching by interest.
const (
	idleTimeout   = 10 * time.Minute // unused: not watched any more
	missingTTL    = time.Second      // a service that does not exist is remembered
	maxMissing    = 10_000           // names
	ensureTimeout = 3 * time.Second  // to read what is asked for the first time
	checkInterval = time.Minute      // to look for what is idle, and how large the fleet is

	// A fleet of more nodes is looked at that much more seldom.
	nodesPerInterval = 1000

	// auto watches by interest in a fleet of more nodes, and all of one of fewer.
	manyNodes = 300
	fewNodes  = 200
)

// everything is the part that is all of the namespace.
var everything = discovery.Scope{}

// subscriptions is what is watched, and why.
type subscriptions struct {
	idleTimeout, checkInterval time.Duration // for tests, which cannot wait as long; default idleAfter, lookAfter

	whole     atomic.Bool  // everything is watched
	nodeCount atomic.Int64 // in the fleet, when they were last counted

	mu      sync.Mutex
	byScope map[discovery.Scope]*subscription
	sized   bool                          // in mode auto: how large the fleet is was known once
	missing map[discovery.Scope]time.Time // what does not exist, until when
	wake    chan struct{}                 // of size 1: something is held that is not watched
}

// subscription is a part that somebody is interested in.
type subscription struct {
	pinned   bool          // for good
	retains  int           // by those who wait for changes
	lastUsed time.Time     // last
	watched  bool          // by itself; all are while everything is
	starting chan struct{} // closed when the attempt to watch it that is under way ends; nil: none
}

func newSubscriptions(o Options) *subscriptions {
	i := &subscriptions{idleTimeout: idleTimeout, checkInterval: checkInterval, byScope: map[discovery.Scope]*subscription{}, missing: map[discovery.Scope]time.Time{}, wake: make(chan struct{}, 1)}
	if o.Watch == WatchAll {
		i.get(everything).pinned = true
		return i
	}
	for _, name := range o.Services {
		i.get(discovery.Scope{Service: discovery.FoldName(name)}).pinned = true
	}
	if o.Node != "" {
		i.get(discovery.Scope{Node: o.Node}).pinned = true
	}
	return i
}

// get returns what is known of the interest in a part; mu is held.
func (i *subscriptions) get(p discovery.Scope) *subscription {
	w, ok := i.byScope[p]
	if !ok {
		w = &subscription{lastUsed: time.Now()}
		i.byScope[p] = w
	}
	return w
}

// serviceScope is the part that a name stands for: a service, or everything with "".
func serviceScope(service string) discovery.Scope {
	return discovery.Scope{Service: discovery.FoldName(service)}
}

func (c *Catalog) scopeRange(p discovery.Scope) reflector.Range {
	from, to := c.keys.ScopeRange(p)
	return reflector.Range{From: from, To: to}
}

// Has reports whether the view has parts as far as they exist, so that Need returns at
// once.
func (c *Catalog) Has(parts ...discovery.Scope) bool {
	for _, p := range parts {
		if !c.has(p) {
			return false
		}
	}
	return true
}

func (c *Catalog) has(p discovery.Scope) bool {
	if c.subscriptions.whole.Load() && p != everything {
		return true
	}
	if s := c.snapshot(); s != nil && p != everything && s.Has(p) {
		c.subscriptions.touchNode(p)
		return true
	}
	// With a list there is no more to be had.
	return c.subscriptions.isKnown(p) || c.options.Watch == WatchListed && !c.subscriptions.exists(p)
}

// Ensure makes the view have parts, as far as they exist: at once what is watched, and by
// a first read what is not. It fails with an ErrUnavailable when etcd does not answer,
// or with ctx.
func (c *Catalog) Ensure(ctx context.Context, parts ...discovery.Scope) error {
	for _, p := range parts {
		if c.has(p) {
			continue
		}
		if err := c.Health().Err; err != nil {
			return discovery.Errorf(discovery.ErrUnavailable, "%s is not watched yet, and etcd does not answer: %v", describeScope(p), err)
		}
		if err := c.ensure(ctx, p); err != nil {
			return discovery.Errorf(discovery.ErrUnavailable, "%s cannot be read: %v", describeScope(p), err)
		}
	}
	return nil
}

func (c *Catalog) ensure(ctx context.Context, p discovery.Scope) error {
	ctx, cancel := context.WithTimeoutCause(ctx, ensureTimeout, fmt.Errorf("etcd has not answered within %v", ensureTimeout))
	defer cancel()
	return c.subscribe(ctx, p)
}

func describeScope(p discovery.Scope) string {
	switch {
	case p.Service != "":
		return fmt.Sprintf("service %q", p.Service)
	case p.Node != "":
		return fmt.Sprintf("node %q", p.Node)
	}
	return "the whole namespace"
}

// touchNode notes that a node was asked for; for services, lookups do that.
func (i *subscriptions) touchNode(p discovery.Scope) {
	if p.Node == "" {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.get(p).lastUsed = time.Now()
}

// isKnown reports whether a part is watched, or is known not to exist; it notes that it
// was asked for.
func (i *subscriptions) isKnown(p discovery.Scope) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if w, ok := i.byScope[p]; ok {
		w.lastUsed = time.Now()
		return w.watched
	}
	until, ok := i.missing[p]
	return ok && time.Now().Before(until)
}

// exists reports whether somebody has an interest in a part already.
func (i *subscriptions) exists(p discovery.Scope) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	_, ok := i.byScope[p]
	return ok
}

// Retain keeps parts in the view, and those that do not exist yet in sight, until release
// is called. It does not wait.
func (c *Catalog) Retain(parts ...discovery.Scope) (release func()) {
	i := c.subscriptions
	i.mu.Lock()
	defer i.mu.Unlock()
	held := make([]*subscription, len(parts))
	for n, p := range parts {
		held[n] = i.get(p)
		held[n].retains++
	}
	select {
	case i.wake <- struct{}{}:
	default:
	}
	return sync.OnceFunc(func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		for _, w := range held {
			w.retains--
			w.lastUsed = time.Now()
		}
	})
}

// subscribe has a part watched from now on, if there is anything of it or somebody
// waits for that. Who comes while another does so waits for the same.
func (c *Catalog) subscribe(ctx context.Context, p discovery.Scope) error {
	for {
		w, others, mine := c.subscriptions.start(p)
		if mine {
			return c.startWatch(ctx, p, w)
		}
		if others == nil {
			return nil
		}
		select {
		case <-others:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if c.subscriptions.isKnown(p) {
			return nil
		}
	}
}

// start reports whether the caller is to have a part watched. Else others do, until
// the channel is closed; with nil it is watched already.
func (i *subscriptions) start(p discovery.Scope) (w *subscription, others <-chan struct{}, mine bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	w = i.get(p)
	if w.watched || i.whole.Load() {
		return w, nil, false
	}
	if w.starting != nil {
		return w, w.starting, false
	}
	w.starting = make(chan struct{})
	return w, w.starting, true
}

func (c *Catalog) startWatch(ctx context.Context, p discovery.Scope, w *subscription) error {
	i := c.subscriptions
	i.mu.Lock()
	expected := w.retains > 0 || w.pinned || p == everything
	i.mu.Unlock()
	var keys int
	var err error
	select {
	case <-c.started:
		keys, err = c.reflector.Load().Add(ctx, c.scopeRange(p), expected)
	case <-ctx.Done():
		err = errors.New("the catalog does not run")
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	close(w.starting)
	w.starting = nil
	if !w.watched && w.retains == 0 && !w.pinned {
		delete(i.byScope, p)
	}
	if err == nil && keys == 0 && !expected {
		i.addMissing(p)
	}
	return err
}

// addMissing remembers for a moment that there is nothing of a part; mu is held.
func (i *subscriptions) addMissing(p discovery.Scope) {
	if len(i.missing) >= maxMissing {
		clear(i.missing)
	}
	i.missing[p] = time.Now().Add(missingTTL)
}

// setWatched takes in that a part is watched.
func (i *subscriptions) setWatched(p discovery.Scope) {
	i.mu.Lock()
	defer i.mu.Unlock()
	w := i.get(p)
	w.watched = true
	delete(i.missing, p)
	if p == everything {
		i.whole.Store(true)
	}
}
