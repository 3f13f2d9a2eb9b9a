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
	idleAfter   = 10 * time.Minute // unused: not watched any more
	missingFor  = time.Second      // a service that does not exist is remembered
	missingMost = 10_000           // names
	needTime    = 3 * time.Second  // to read what is asked for the first time
	lookAfter   = time.Minute      // to look for what is idle, and how large the fleet is

	// A fleet of more nodes is looked at that much more seldom.
	countedAtOnce = 1000

	// auto watches by interest in a fleet of more nodes, and all of one of fewer.
	manyNodes = 300
	fewNodes  = 200
)

// everything is the part that is all of the namespace.
var everything = discovery.Scope{}

// interest is what is watched, and why.
type interest struct {
	idle, look time.Duration // for tests, which cannot wait as long; default idleAfter, lookAfter

	whole atomic.Bool  // everything is watched
	nodes atomic.Int64 // in the fleet, when they were last counted

	mu      sync.Mutex
	wants   map[discovery.Scope]*want
	decided bool                          // in mode auto: how large the fleet is was known once
	missing map[discovery.Scope]time.Time // what does not exist, until when
	wake    chan struct{}                 // of size 1: something is held that is not watched
}

// want is a part that somebody is interested in.
type want struct {
	pinned  bool          // for good
	holds   int           // by those who wait for changes
	used    time.Time     // last
	watched bool          // by itself; all are while everything is
	busy    chan struct{} // closed when the attempt to watch it that is under way ends; nil: none
}

func newInterest(o Options) *interest {
	i := &interest{idle: idleAfter, look: lookAfter, wants: map[discovery.Scope]*want{}, missing: map[discovery.Scope]time.Time{}, wake: make(chan struct{}, 1)}
	if o.Watch == WatchAll {
		i.of(everything).pinned = true
		return i
	}
	for _, name := range o.Services {
		i.of(discovery.Scope{Service: discovery.FoldName(name)}).pinned = true
	}
	if o.Node != "" {
		i.of(discovery.Scope{Node: o.Node}).pinned = true
	}
	return i
}

// of returns what is known of the interest in a part; mu is held.
func (i *interest) of(p discovery.Scope) *want {
	w, ok := i.wants[p]
	if !ok {
		w = &want{used: time.Now()}
		i.wants[p] = w
	}
	return w
}

// partOf is the part that a name stands for: a service, or everything with "".
func partOf(service string) discovery.Scope {
	return discovery.Scope{Service: discovery.FoldName(service)}
}

func (c *Catalog) rangeOf(p discovery.Scope) reflector.Range {
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
	if c.interest.whole.Load() && p != everything {
		return true
	}
	if s := c.snapshot(); s != nil && p != everything && s.Has(p) {
		c.interest.uses(p)
		return true
	}
	// With a list there is no more to be had.
	return c.interest.knows(p) || c.options.Watch == WatchListed && !c.interest.wanted(p)
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
			return discovery.Errorf(discovery.ErrUnavailable, "%s is not watched yet, and etcd does not answer: %v", describe(p), err)
		}
		if err := c.need(ctx, p); err != nil {
			return discovery.Errorf(discovery.ErrUnavailable, "%s cannot be read: %v", describe(p), err)
		}
	}
	return nil
}

func (c *Catalog) need(ctx context.Context, p discovery.Scope) error {
	ctx, cancel := context.WithTimeoutCause(ctx, needTime, fmt.Errorf("etcd has not answered within %v", needTime))
	defer cancel()
	return c.subscribe(ctx, p)
}

func describe(p discovery.Scope) string {
	switch {
	case p.Service != "":
		return fmt.Sprintf("service %q", p.Service)
	case p.Node != "":
		return fmt.Sprintf("node %q", p.Node)
	}
	return "the whole namespace"
}

// uses notes that a node was asked for; for services, lookups do that.
func (i *interest) uses(p discovery.Scope) {
	if p.Node == "" {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.of(p).used = time.Now()
}

// knows reports whether a part is watched, or is known not to exist; it notes that it
// was asked for.
func (i *interest) knows(p discovery.Scope) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if w, ok := i.wants[p]; ok {
		w.used = time.Now()
		return w.watched
	}
	until, ok := i.missing[p]
	return ok && time.Now().Before(until)
}

// wanted reports whether somebody has an interest in a part already.
func (i *interest) wanted(p discovery.Scope) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	_, ok := i.wants[p]
	return ok
}

// Retain keeps parts in the view, and those that do not exist yet in sight, until release
// is called. It does not wait.
func (c *Catalog) Retain(parts ...discovery.Scope) (release func()) {
	i := c.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	held := make([]*want, len(parts))
	for n, p := range parts {
		held[n] = i.of(p)
		held[n].holds++
	}
	select {
	case i.wake <- struct{}{}:
	default:
	}
	return sync.OnceFunc(func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		for _, w := range held {
			w.holds--
			w.used = time.Now()
		}
	})
}

// subscribe has a part watched from now on, if there is anything of it or somebody
// waits for that. Who comes while another does so waits for the same.
func (c *Catalog) subscribe(ctx context.Context, p discovery.Scope) error {
	for {
		w, others, mine := c.interest.begin(p)
		if mine {
			return c.attempt(ctx, p, w)
		}
		if others == nil {
			return nil
		}
		select {
		case <-others:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if c.interest.knows(p) {
			return nil
		}
	}
}

// begin reports whether the caller is to have a part watched. Else others do, until
// the channel is closed; with nil it is watched already.
func (i *interest) begin(p discovery.Scope) (w *want, others <-chan struct{}, mine bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	w = i.of(p)
	if w.watched || i.whole.Load() {
		return w, nil, false
	}
	if w.busy != nil {
		return w, w.busy, false
	}
	w.busy = make(chan struct{})
	return w, w.busy, true
}

func (c *Catalog) attempt(ctx context.Context, p discovery.Scope, w *want) error {
	i := c.interest
	i.mu.Lock()
	expected := w.holds > 0 || w.pinned || p == everything
	i.mu.Unlock()
	var keys int
	var err error
	select {
	case <-c.begun:
		keys, err = c.follower.Load().Add(ctx, c.rangeOf(p), expected)
	case <-ctx.Done():
		err = errors.New("the catalog does not run")
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	close(w.busy)
	w.busy = nil
	if !w.watched && w.holds == 0 && !w.pinned {
		delete(i.wants, p)
	}
	if err == nil && keys == 0 && !expected {
		i.misses(p)
	}
	return err
}

// misses remembers for a moment that there is nothing of a part; mu is held.
func (i *interest) misses(p discovery.Scope) {
	if len(i.missing) >= missingMost {
		clear(i.missing)
	}
	i.missing[p] = time.Now().Add(missingFor)
}

// watches takes in that a part is watched.
func (i *interest) watches(p discovery.Scope) {
	i.mu.Lock()
	defer i.mu.Unlock()
	w := i.of(p)
	w.watched = true
	delete(i.missing, p)
	if p == everything {
		i.whole.Store(true)
	}
}
