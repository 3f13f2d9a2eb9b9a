package kv

import (
	"context"
	"slices"
	"time"

	"disc/discovery/reflector"
)

// bounds are the bounds of what a store caches.
type bounds struct {
	ranges       int           // number of cached ranges; each is a watch in etcd
	inUse        time.Duration // after its last read, in which a range is not evicted for another
	emptyTimeout time.Duration // after the last read, when a range without keys is evicted
	check        time.Duration // between two looks for ranges to evict
}

var defaultBounds = bounds{ranges: 1024, inUse: time.Minute, emptyTimeout: 5 * time.Second, check: 2 * time.Second}

// maintain evicts the ranges that are not read any more or do not fit any more, until ctx ends.
func (s *Store) maintain(ctx context.Context) error {
	ticker := time.NewTicker(min(s.bounds.check, s.options.IdleTimeout/2))
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.evictIdle(ctx)
		case <-s.overfull:
			s.shrink(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// evictIdle evicts the ranges that were not read for IdleTimeout, or are empty and were not read
// for emptyTimeout.
func (s *Store) evictIdle(ctx context.Context) {
	asOf := s.touchAwaited()
	now := s.state.Load()
	for _, cr := range now.ranges {
		idle := cr.idle(asOf)
		if idle > s.options.IdleTimeout || idle > s.bounds.emptyTimeout && now.isEmpty(cr.Range) {
			if s.evict(ctx, cr) != nil {
				break // etcd is away; try again at the next tick
			}
		}
	}
	s.forgetRefusals()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.eventLog.expire()
}

// shrink evicts ranges until the cache has no more than MaxCachedBytes, those first that were
// not read for longest.
func (s *Store) shrink(ctx context.Context) {
	s.touchAwaited()
	for {
		now := s.state.Load()
		cr := now.leastRecentlyUsed()
		if cr == nil || now.size <= s.options.MaxCachedBytes {
			return
		}
		s.options.Logger.Warn("the copies of keys have grown too large; dropping one", "directory", s.displayName(cr.Range), "bytes", now.size, "most", s.options.MaxCachedBytes)
		if s.evict(ctx, cr) != nil {
			return // etcd is away; its next change calls shrink again
		}
	}
}

// makeRoom reports whether a further range, which is in s.loading, may be cached. If there are
// as many as allowed, it evicts those that were not read for longest, unless they are in use.
func (s *Store) makeRoom(ctx context.Context) bool {
	asOf := s.touchAwaited()
	for {
		s.mu.Lock()
		now := s.state.Load()
		count := len(now.ranges) + len(s.loading)
		s.mu.Unlock()
		if count <= s.bounds.ranges {
			return true
		}
		away := s.reflector.Health().Err != nil // so that evict would wait in vain
		cr := now.leastRecentlyUsed()
		if away || cr == nil || cr.idle(asOf) <= s.bounds.inUse || s.evict(ctx, cr) != nil {
			return false
		}
	}
}

// leastRecentlyUsed returns the range that was not read for longest; nil: there is none.
func (s *state) leastRecentlyUsed() *cachedRange {
	if len(s.ranges) == 0 {
		return nil
	}
	return slices.MinFunc(s.ranges, func(a, b *cachedRange) int { return int(a.used.Load() - b.used.Load()) })
}

// touchAwaited records a read of the ranges whose changes somebody waits for. It returns the time
// before that: as of then these are not idle, however long the evictions take that follow.
func (s *Store) touchAwaited() (asOf time.Time) {
	asOf = time.Now()
	s.mu.Lock()
	awaited := s.eventLog.awaited()
	s.mu.Unlock()
	now := s.state.Load()
	for _, what := range awaited {
		if cr := now.covering(s.rangeOf(what)); cr != nil {
			cr.touch()
		}
	}
	return asOf
}

// evict drops a range from the cache. The ranges nested in it, whose watches it had
// replaced, are watched by themselves again.
func (s *Store) evict(ctx context.Context, cr *cachedRange) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return s.reflector.Narrow(ctx, cr.Range, func() []reflector.Range {
		inner := s.nested(cr)
		s.removeRange(cr)
		return inner
	})
}

// dropForbidden drops a range that etcd forbids to list, so that the others are current without
// it. The next read of it asks etcd. It implements [reflector.Options.Forbidden].
func (s *Store) dropForbidden(r reflector.Range, err error) bool {
	s.options.Logger.Warn("etcd forbids to read a directory; its copy is dropped, and the others go on",
		"directory", s.displayName(r), "error", err)
	for _, cr := range s.state.Load().ranges {
		if r.Covers(cr.Range) {
			s.removeRange(cr)
		}
	}
	return true
}

// nested returns the widest of the cached ranges within another.
func (s *Store) nested(cr *cachedRange) []reflector.Range {
	var inner []reflector.Range
	for _, other := range s.state.Load().ranges {
		if other.Range != cr.Range && cr.Covers(other.Range) {
			inner = append(inner, other.Range)
		}
	}
	return slices.DeleteFunc(slices.Clone(inner), func(r reflector.Range) bool {
		return slices.ContainsFunc(inner, func(wider reflector.Range) bool { return wider != r && wider.Covers(r) })
	})
}

// touch records a read.
func (cr *cachedRange) touch() { cr.used.Store(time.Now().UnixNano()) }

// idle returns the time from the last read to a time.
func (cr *cachedRange) idle(asOf time.Time) time.Duration {
	return asOf.Sub(time.Unix(0, cr.used.Load()))
}
