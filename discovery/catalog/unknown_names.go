package catalog

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"disc/discovery"
	"disc/discovery/reflector"
	"disc/discovery/retry"
)

// Bounds of the reads for names that turn out to be unknown.
const (
	missingTTL = time.Second // for which a scope counts as missing after a read
	maxMissing = 10_000      // scopes that are remembered as missing, and as known
	missRate   = 20          // reads a second that find nothing, on average
	missBurst  = 100         // such reads at once
)

// missing are the scopes that have no keys in etcd, or that etcd forbids to read, as far as was
// read a moment ago. It bounds the reads that find nothing, so that lookups of ever new names
// cost etcd no more than that. Reads that find something are not bounded.
type missing struct {
	mu       sync.Mutex
	scopes   map[discovery.Scope]absence
	known    map[discovery.Scope]struct{} // were watched, so that a read of them may find something
	misses   *rate.Limiter                // of reads that found nothing
	inFlight int                          // reads that may find nothing
}

// absence is why a read of a scope found nothing.
type absence struct {
	forbidden error     // nil: it has no keys
	until     time.Time // when that is not assumed any more
}

func newMissing() *missing {
	return &missing{scopes: map[discovery.Scope]absence{}, known: map[discovery.Scope]struct{}{}, misses: rate.NewLimiter(missRate, missBurst)}
}

// has reports whether a read of a scope found nothing a moment ago, and why if that was
// forbidden.
func (m *missing) has(scope discovery.Scope) (found bool, forbidden error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.scopes[scope]
	if !ok || !time.Now().Before(a.until) {
		return false, nil
	}
	return true, a.forbidden
}

// add records that a scope has no keys or, if forbidden is not nil, cannot be read. That holds
// for missingTTL after asOf, when the read began; unless there are too many such scopes.
func (m *missing) add(scope discovery.Scope, forbidden error, asOf time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.known, scope)
	now := time.Now()
	if len(m.scopes) >= maxMissing {
		maps.DeleteFunc(m.scopes, func(_ discovery.Scope, a absence) bool { return !now.Before(a.until) })
	}
	if len(m.scopes) < maxMissing {
		m.scopes[scope] = absence{forbidden, asOf.Add(missingTTL)}
	}
}

// remove records that a scope is watched.
func (m *missing) remove(scope discovery.Scope) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.scopes, scope)
	if len(m.known) < maxMissing {
		m.known[scope] = struct{}{}
	}
}

// begin reports whether a read of a scope may find nothing. The caller then calls end after it.
// A scope that was watched before may always be read.
func (m *missing) begin(scope discovery.Scope) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.known[scope]; !known && m.misses.Tokens() < float64(m.inFlight+1) {
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
// all such calls; where they cannot be read, it waits for its turn.
func (c *Catalog) addBounded(ctx context.Context, r *reflector.Reflector, scope discovery.Scope) error {
	for !c.missing.begin(scope) {
		named, asOf, err := c.isNamed(ctx, scope)
		switch {
		case err == nil && named:
			_, err = r.Add(ctx, c.scopeRange(scope), false)
			return err
		case err == nil:
			c.missing.add(scope, nil, asOf)
			return nil
		case retry.Sleep(ctx, time.Second/missRate) != nil: // the list's refusal is none of the scope
			return discovery.Errorf(discovery.ErrUnavailable, "too many unknown names are looked up, and the list of all names cannot be read: %v; try again", err)
		}
	}
	began := time.Now()
	keys, err := r.Add(ctx, c.scopeRange(scope), false)
	c.missing.end(keys > 0)
	if err == nil && keys == 0 {
		c.missing.add(scope, nil, began)
	}
	return err
}

// isNamed reports whether a scope is among the names in etcd, as of the time when they were read.
func (c *Catalog) isNamed(ctx context.Context, scope discovery.Scope) (named bool, asOf time.Time, err error) {
	list, name := &c.serviceNames, scope.Service
	if scope.Node != "" {
		list, name = &c.nodeNames, scope.Node
	}
	names, err := list.list(ctx)
	if err != nil {
		return false, time.Time{}, err
	}
	_, named = slices.BinarySearch(names.all, name)
	return named, names.started, nil
}
