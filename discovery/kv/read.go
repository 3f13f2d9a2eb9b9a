package kv

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"disc/discovery"
	"disc/discovery/reflector"
)

const (
	// catchUpTimeout is how long a read waits for the cache to reach a revision before it
	// reads from etcd: the revision may be of a write in another range.
	catchUpTimeout = 250 * time.Millisecond
	// verifyTimeout is how long a read waits for etcd's answer when it can fall back on the
	// cache, which may be of an etcd that was wiped or restored since.
	verifyTimeout = time.Second
)

// Read is how fresh an answer must be. The zero value accepts the cache as it is.
type Read struct {
	// Linearizable reads from etcd, and so sees every write that was answered before.
	Linearizable bool
	// MinRevision is a revision that the answer must include, as returned by a write. The
	// error is an ErrUnavailable when etcd is not that far: it was wiped or restored since.
	MinRevision int64
	// MaxAge bounds the age of the answer; 0: any age. If the cache is older, the read goes
	// to etcd; the error is an ErrUnavailable when that does not answer.
	MaxAge time.Duration
}

// Freshness is how current an answer is.
type Freshness struct {
	Revision int64         // etcd's; the answer is complete up to it
	Epoch    string        // identifies the etcd that the revision belongs to; "" when etcd answered
	Index    int64         // differs after each change of the answer
	Age      time.Duration // since etcd last confirmed that the answer is current
	Stale    bool          // Age is above Options.StaleAfter
}

// Get returns the item of a key. Errors: ErrInvalid for a bad key; ErrNotFound, with the
// freshness of that answer; ErrUnavailable when etcd is away and the key is not cached, or
// the cache is older than r.MaxAge.
func (s *Store) Get(ctx context.Context, key string, r Read) (Item, Freshness, error) {
	if err := ValidateKey(key); err != nil {
		return Item{}, Freshness{}, err
	}
	only := s.keyRange(key)
	items, fresh, err := s.read(ctx, only, s.directory(key), r)
	if err != nil {
		return Item{}, Freshness{}, err
	}
	var found Item
	for i := range items {
		found = i
	}
	if found.Key == "" {
		fresh.Index = 0
		return Item{}, fresh, discovery.Errorf(discovery.ErrNotFound, "key %q is not there", key)
	}
	fresh.Index = found.Revision
	return s.external(found), fresh, nil
}

// GetCached returns the item of a key from the cache, as [Store.Get] does with the zero Read,
// without waiting. It returns false when the key's range is not cached or has no such key.
func (s *Store) GetCached(key string) (Item, Freshness, bool) {
	only, now := s.keyRange(key), s.state.Load()
	cr := now.covering(only)
	if cr == nil {
		return Item{}, Freshness{}, false
	}
	found, ok := now.items.Get(Item{Key: only.From})
	if !ok || ValidateKey(key) != nil { // another program has written an invalid key, which Get refuses
		return Item{}, Freshness{}, false
	}
	cr.touch()
	fresh := s.freshness(now, cr)
	fresh.Index = found.Revision
	return s.external(found), fresh, true
}

// List returns the items below a prefix, sorted by key; see [ValidatePrefix]. There may be
// none. Its other errors are those of [Store.Get].
func (s *Store) List(ctx context.Context, prefix string, r Read) (iter.Seq[Item], Freshness, error) {
	if err := ValidatePrefix(prefix); err != nil {
		return nil, Freshness{}, err
	}
	below := s.prefixRange(prefix)
	items, fresh, err := s.read(ctx, below, below, r)
	if err != nil {
		return nil, Freshness{}, err
	}
	return s.allExternal(items), fresh, nil
}

// allExternal returns items with the names that readers use.
func (s *Store) allExternal(items iter.Seq[Item]) iter.Seq[Item] {
	return func(yield func(Item) bool) {
		for i := range items {
			if !yield(s.external(i)) {
				return
			}
		}
	}
}

// external returns an item with the name that readers use, without the namespace's prefix.
func (s *Store) external(i Item) Item {
	i.Key = i.Key[len(s.prefix):]
	return i
}

// read returns the items of a range, from the cache or from etcd. If the range is not
// cached, it caches a wider one.
func (s *Store) read(ctx context.Context, rng, wider reflector.Range, r Read) (iter.Seq[Item], Freshness, error) {
	if r.Linearizable {
		return s.readEtcd(ctx, rng, r)
	}
	now, cr, err := s.cached(ctx, rng, wider)
	if err != nil || cr == nil {
		if err == nil {
			return s.readEtcd(ctx, rng, r)
		}
		return nil, Freshness{}, err
	}
	if r.MinRevision > 0 && !s.hasRevision(cr, r.MinRevision) {
		if later, laterRange := s.awaitRevision(ctx, rng, r.MinRevision, catchUpTimeout); later != nil {
			now, cr = later, laterRange
		} else if items, fresh, err := s.verifyInEtcd(ctx, rng, cr, r); err == nil || fresh.Revision > 0 || cr.deliveredUpTo < r.MinRevision {
			return items, fresh, err
		} // else etcd is away: answer from the cache
	}
	fresh := s.freshness(now, cr)
	if r.MaxAge > 0 && fresh.Age > r.MaxAge {
		return s.readNewer(ctx, rng, cr, r, fresh.Age)
	}
	return now.in(rng), fresh, nil
}

// readNewer reads from etcd because the cache is older than r.MaxAge, as it may be while
// nothing changes. It makes no request if etcd is known to be away.
func (s *Store) readNewer(ctx context.Context, rng reflector.Range, cr *cachedRange, r Read, age time.Duration) (iter.Seq[Item], Freshness, error) {
	if s.reflector.Health().Err == nil {
		if items, fresh, err := s.verifyInEtcd(ctx, rng, cr, r); err == nil || fresh.Revision > 0 {
			fresh.Index = cr.lastChange // if there are newer changes, the cache has them in a moment
			return items, fresh, err
		}
	}
	return nil, Freshness{}, discovery.Errorf(discovery.ErrUnavailable,
		"the cache of %q is %v old, above the limit of %v, and etcd does not answer; allow a greater age, or try again", s.displayName(rng), age.Round(time.Millisecond), r.MaxAge)
}

// freshness returns the freshness of an answer from a cached range.
func (s *Store) freshness(now *state, cr *cachedRange) Freshness {
	age := time.Since(now.confirmed)
	return Freshness{Revision: cr.deliveredUpTo, Epoch: now.epoch, Index: cr.lastChange, Age: age, Stale: age > s.options.StaleAfter}
}

// cached returns the state and the cached range that covers a range. If there is none, it
// caches a wider one. The cached range is nil when that is too large, or not complete yet.
func (s *Store) cached(ctx context.Context, rng, wider reflector.Range) (*state, *cachedRange, error) {
	for {
		now := s.state.Load()
		if cr := now.covering(rng); cr != nil {
			cr.touch()
			return now, cr, nil
		}
		loaded, err := s.ensureCached(ctx, wider)
		if err != nil || !loaded {
			return now, nil, err
		}
	}
}

// ensureCached caches a range, or waits while another caller does. It returns false when the
// range is too large, or not complete yet.
func (s *Store) ensureCached(ctx context.Context, r reflector.Range) (bool, error) {
	s.activate.Do(func() { close(s.activated) })
	if s.isTooLarge(r) {
		return false, nil
	}
	s.mu.Lock()
	done, ok := s.loading[r]
	if !ok {
		done = make(chan struct{})
		s.loading[r] = done
	}
	s.mu.Unlock()
	if ok {
		select {
		case <-done:
			return true, nil // if the other caller failed, this one tries next
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.loading, r)
		close(done)
	}()
	return s.load(ctx, r)
}

// isTooLarge reports whether a range was too large to cache within the last tooLargeTTL.
func (s *Store) isTooLarge(r reflector.Range) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, ok := s.tooLarge[r]
	return ok && time.Now().Before(until)
}

// load caches a range, unless the cache would exceed MaxCachedBytes. It reports whether the
// range is cached and complete.
func (s *Store) load(ctx context.Context, r reflector.Range) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := s.reflector.Add(ctx, r, true); err != nil {
		if reason := s.reflector.Health().Err; reason != nil && errors.Is(err, context.DeadlineExceeded) {
			err = reason
		}
		return false, fmt.Errorf("cache %q: %w", s.displayName(r), err)
	}
	now := s.state.Load()
	if cr := now.find(r); cr != nil && now.size > s.options.MaxCachedBytes {
		s.mu.Lock()
		s.tooLarge[r] = time.Now().Add(tooLargeTTL)
		s.mu.Unlock()
		return false, s.evict(ctx, cr)
	}
	_, complete := s.awaitRevision(ctx, r, 0, catchUpTimeout)
	return complete != nil, nil
}

// hasRevision reports whether a cached range has all writes up to a revision. While the
// watch is broken it does not: the revision may be of an etcd that replaced the watched one.
func (s *Store) hasRevision(cr *cachedRange, revision int64) bool {
	return cr.deliveredUpTo >= revision && s.reflector.Health().Err == nil
}

// awaitRevision waits until a range is cached up to a revision; nil: it was not in time.
func (s *Store) awaitRevision(ctx context.Context, rng reflector.Range, revision int64, timeout time.Duration) (*state, *cachedRange) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		changed := s.Changed()
		now := s.state.Load()
		if cr := now.covering(rng); cr != nil && s.hasRevision(cr, revision) {
			return now, cr
		}
		select {
		case <-changed:
		case <-timer.C:
			return nil, nil
		case <-ctx.Done():
			return nil, nil
		}
	}
}

// verifyInEtcd reads from etcd, for at most verifyTimeout if the cache has r.MinRevision.
func (s *Store) verifyInEtcd(ctx context.Context, rng reflector.Range, cr *cachedRange, r Read) (iter.Seq[Item], Freshness, error) {
	if cr.deliveredUpTo >= r.MinRevision {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, verifyTimeout)
		defer cancel()
	}
	return s.readEtcd(ctx, rng, r)
}

// readEtcd reads a range from etcd. etcd has every write that it answered. So if it is below
// r.MinRevision, that is another etcd's, and the error comes with the revision of this one.
func (s *Store) readEtcd(ctx context.Context, rng reflector.Range, r Read) (iter.Seq[Item], Freshness, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var items []Item
	at, err := reflector.List(ctx, s.client, rng, func(page []*mvccpb.KeyValue) error {
		for _, kv := range page {
			items = append(items, itemOf(kv))
		}
		return nil
	})
	if err != nil {
		return nil, Freshness{}, err
	}
	if at.Revision < r.MinRevision {
		return nil, Freshness{Revision: at.Revision}, discovery.Errorf(discovery.ErrUnavailable,
			"etcd is at revision %d, below the requested %d, which it never answered, or lost in a restore; read without a revision", at.Revision, r.MinRevision)
	}
	return slices.Values(items), Freshness{Revision: at.Revision, Index: at.Revision}, nil
}
