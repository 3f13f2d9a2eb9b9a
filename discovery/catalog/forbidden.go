package catalog

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"disc/discovery"
	"disc/discovery/reflector"
)

// forbid drops a scope that etcd forbids to list, so that the others are current without it.
// It is unavailable until etcd permits it; pinned and retained scopes are tried again and again.
// forbid returns false where nothing is to be had without the scope. It implements
// [reflector.Options.Forbidden].
func (c *Catalog) forbid(rng reflector.Range, _ error) bool {
	scope := c.keys.ScopeOf(rng.From)
	if scope == everything && c.options.Watch == WatchAll {
		return false
	}
	reason := c.forbiddenReason(scope)
	c.log.Warn("etcd forbids to read a part of the namespace; it is unavailable, and the rest goes on",
		"scope", describeScope(scope), "error", reason)
	c.missing.add(scope, reason, time.Now())
	watched := c.subscriptions.forbid(scope, reason)
	if s := c.state.Load(); s != nil {
		c.publishNarrowed(s.snapshot.Without(scope), watched)
	} else if c.partialView != nil { // an earlier attempt may have listed it
		c.partialView = c.partialView.Without(scope)
		c.unreadable.retain(func(key discovery.Key) bool { return !rng.Contains(nameOf(c.keys, key)) })
	}
	return true
}

// forbid records that etcd forbids to read a scope, and returns those that are still watched.
// The scopes in everything had no watch of their own.
func (subs *subscriptions) forbid(scope discovery.Scope, reason error) (watched []discovery.Scope) {
	subs.mu.Lock()
	defer subs.mu.Unlock()
	for other, sub := range subs.byScope {
		if other != scope && scope != everything {
			if sub.watched {
				watched = append(watched, other)
			}
			continue
		}
		if sub.watched = false; other == scope {
			sub.forbidden = reason
		}
		if sub.retains == 0 && !sub.pinned && sub.starting == nil {
			delete(subs.byScope, other)
		}
	}
	subs.wake.Notify()
	return watched
}

// forbiddenReason says why a scope cannot be read, and what to do.
func (c *Catalog) forbiddenReason(scope discovery.Scope) error {
	prefix := c.scopeRange(scope).From
	if scope == everything {
		prefix = c.keys.Prefix()
	}
	return fmt.Errorf("etcd denies permission; grant the user's role read on prefix %s", prefix)
}

// Forbidden returns why a scope is unavailable that is always watched or is retained: etcd
// forbids to read it. It is nil if there is none; of several it names the first and their number.
func (c *Catalog) Forbidden() error {
	subs := c.subscriptions
	subs.mu.Lock()
	defer subs.mu.Unlock()
	var all []discovery.Scope
	for scope, sub := range subs.byScope {
		if sub.forbidden != nil && (sub.pinned || sub.retains > 0) {
			all = append(all, scope)
		}
	}
	if len(all) == 0 {
		return nil
	}
	slices.SortFunc(all, func(a, b discovery.Scope) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Node, b.Node))
	})
	first := fmt.Errorf("%s cannot be read: %w", describeScope(all[0]), subs.byScope[all[0]].forbidden)
	if len(all) > 1 {
		return fmt.Errorf("%w (and %d more)", first, len(all)-1)
	}
	return first
}
