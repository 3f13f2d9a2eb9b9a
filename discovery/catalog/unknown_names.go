package catalog

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"disc/discovery"
	"disc/discovery/etcd"
	"disc/discovery/reflector"
	"disc/discovery/retry"
)

// Bounds of the reads for names that turn out to be unknown.
const (
	missingTTL = time.Second // for which a scope counts as missing after a read
	maxMissing = 10_000      // scopes that are remembered as missing
	missRate   = 20          // reads a second that find nothing, on average
	missBurst  = 100         // such reads at once
)

// missing are the scopes that have no keys in etcd, as far as was read a moment ago. It bounds
// the reads that find nothing, so that lookups of ever new names cost etcd no more than that.
// Reads that find something are not bounded.
type missing struct {
	mu       sync.Mutex
	until    map[discovery.Scope]time.Time // until when each is assumed to be missing
	misses   *rate.Limiter                 // of reads that found nothing
	inFlight int                           // reads that may find nothing
}

func newMissing() *missing {
	return &missing{until: map[discovery.Scope]time.Time{}, misses: rate.NewLimiter(missRate, missBurst)}
}

// has reports whether a scope was missing a moment ago.
func (m *missing) has(scope discovery.Scope) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	until, ok := m.until[scope]
	return ok && time.Now().Before(until)
}

// add records for missingTTL that a scope has no keys, unless there are too many such scopes.
func (m *missing) add(scope discovery.Scope) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if len(m.until) >= maxMissing {
		maps.DeleteFunc(m.until, func(_ discovery.Scope, until time.Time) bool { return !now.Before(until) })
	}
	if len(m.until) < maxMissing {
		m.until[scope] = now.Add(missingTTL)
	}
}

// remove records that a scope has keys, or is watched without any.
func (m *missing) remove(scope discovery.Scope) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.until, scope)
}

// begin reports whether a read may find nothing. The caller then calls end after it.
func (m *missing) begin() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.misses.Tokens() < float64(m.inFlight+1) {
		return false
	}
	m.inFlight++
	return true
}

// end ends a read that begin permitted.
func (m *missing) end(found bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inFlight--
	if !found {
		m.misses.Allow()
	}
}

// addBounded has the reflector watch a scope, if it has keys, within the bounds of reads that
// find nothing. Beyond them, it looks for the scope among all names, which are read at once for
// all such calls; where etcd does not permit that, it waits for its turn. It returns the number
// of keys.
func (c *Catalog) addBounded(ctx context.Context, r *reflector.Reflector, scope discovery.Scope) (keys int, err error) {
	for !c.missing.begin() {
		named, err := c.isNamed(ctx, scope)
		switch {
		case err == nil && named:
			return r.Add(ctx, c.scopeRange(scope), false)
		case err == nil:
			return 0, nil
		case !etcd.Refused(err).Access():
			return 0, err
		case retry.Sleep(ctx, time.Second/missRate) != nil:
			return 0, fmt.Errorf("too many unknown names are looked up, and the list of all names cannot be read: %w", err)
		}
	}
	keys, err = r.Add(ctx, c.scopeRange(scope), false)
	c.missing.end(keys > 0)
	return keys, err
}

// isNamed reports whether a scope is among the names in etcd.
func (c *Catalog) isNamed(ctx context.Context, scope discovery.Scope) (bool, error) {
	list, name := &c.serviceNames, scope.Service
	if scope.Node != "" {
		list, name = &c.nodeNames, scope.Node
	}
	all, err := list.list(ctx)
	_, found := slices.BinarySearch(all, name)
	return found, err
}
