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
	// catchUpTimeout is how long a read waits for its copy to come to a revision before it asks
	// etcd: the revision may be of a write elsewhere.
	catchUpTimeout = 250 * time.Millisecond
	// verifyTimeout is how long etcd is asked for what the copy has, in case that it is of a
	// life that is over.
	verifyTimeout = time.Second
)

// Read says how fresh an answer must be. The zero value takes the copy as it is.
type Read struct {
	// Linearizable asks etcd, and so has every write that was answered before.
	Linearizable bool
	// MinRevision is a revision that the answer must have, as a write answered it. It is
	// an ErrUnavailable when etcd has not come so far: it was wiped or restored since.
	MinRevision int64
	// MaxAge is how old the answer may be; 0: however old. Where the copy is older, etcd is
	// asked; it is an ErrUnavailable when that does not answer.
	MaxAge time.Duration
}

// Freshness says how sure an answer is.
type Freshness struct {
	Revision int64         // of etcd, up to which the answer is complete
	Epoch    string        // of the etcd's life that the revision belongs to; "" when etcd was asked
	Index    int64         // another after each change of what was asked for
	Age      time.Duration // since etcd last confirmed that it was current
	Stale    bool          // Age is above the threshold
}

// Get returns the item of a key. Errors: an ErrInvalid key; ErrNotFound, with the view
// that says so; ErrUnavailable when etcd is away and the key was never copied, or the
// copy is older than the reader wants.
func (s *Store) Get(ctx context.Context, key string, r Read) (Item, Freshness, error) {
	if err := ValidateKey(key); err != nil {
		return Item{}, Freshness{}, err
	}
	only := s.keyRange(key)
	items, view, err := s.read(ctx, only, s.directory(key), r)
	if err != nil {
		return Item{}, Freshness{}, err
	}
	var found Item
	for i := range items {
		found = i
	}
	if found.Key == "" {
		view.Index = 0
		return Item{}, view, discovery.Errorf(discovery.ErrNotFound, "key %q is not there", key)
	}
	view.Index = found.Revision
	return s.external(found), view, nil
}

// GetCached returns the item of a key from a copy, as [Store.Get] does with the zero Read, and
// does not wait. It reports false when there is no copy, or no such key in it.
func (s *Store) GetCached(key string) (Item, Freshness, bool) {
	only, now := s.keyRange(key), s.state.Load()
	c := now.covering(only)
	if c == nil {
		return Item{}, Freshness{}, false
	}
	found, ok := now.items.Get(Item{Key: only.From})
	if !ok || ValidateKey(key) != nil { // a foreign writer's, which Get refuses
		return Item{}, Freshness{}, false
	}
	c.touch()
	view := s.freshness(now, c)
	view.Index = found.Revision
	return s.external(found), view, true
}

// List returns the items below a prefix, sorted by key; see [ValidatePrefix]. None is
// fine. Other errors as for [Store.Get].
func (s *Store) List(ctx context.Context, prefix string, r Read) (iter.Seq[Item], Freshness, error) {
	if err := ValidatePrefix(prefix); err != nil {
		return nil, Freshness{}, err
	}
	below := s.prefixRange(prefix)
	items, view, err := s.read(ctx, below, below, r)
	if err != nil {
		return nil, Freshness{}, err
	}
	return s.allExternal(items), view, nil
}

// allExternal are items as their readers know them.
func (s *Store) allExternal(items iter.Seq[Item]) iter.Seq[Item] {
	return func(yield func(Item) bool) {
		for i := range items {
			if !yield(s.external(i)) {
				return
			}
		}
	}
}

// external is an item as its readers know it.
func (s *Store) external(i Item) Item {
	i.Key = i.Key[len(s.prefix):]
	return i
}

// read returns what is in a range, from a copy that holds it or from etcd. If there is no
// copy, that of a wider range is made.
func (s *Store) read(ctx context.Context, of, wider reflector.Range, r Read) (iter.Seq[Item], Freshness, error) {
	if r.Linearizable {
		return s.readEtcd(ctx, of, r)
	}
	now, c, err := s.cached(ctx, of, wider)
	if err != nil || c == nil {
		if err == nil {
			return s.readEtcd(ctx, of, r)
		}
		return nil, Freshness{}, err
	}
	if r.MinRevision > 0 && !s.hasRevision(c, r.MinRevision) {
		if fresh, at := s.awaitRevision(ctx, of, r.MinRevision, catchUpTimeout); fresh != nil {
			now, c = fresh, at
		} else if items, view, err := s.verifyInEtcd(ctx, of, c, r); err == nil || view.Revision > 0 || c.deliveredUpTo < r.MinRevision {
			return items, view, err
		} // else etcd is away, and the copy is what there is
	}
	view := s.freshness(now, c)
	if r.MaxAge > 0 && view.Age > r.MaxAge {
		return s.readNewer(ctx, of, c, r, view.Age)
	}
	return now.in(of), view, nil
}

// readNewer asks etcd for what the copy is too old for. Where nothing happens, etcd goes
// unasked for a while; where it is known to be away, it is not asked at all.
func (s *Store) readNewer(ctx context.Context, of reflector.Range, c *cachedRange, r Read, age time.Duration) (iter.Seq[Item], Freshness, error) {
	if s.reflector.Health().Err == nil {
		if items, view, err := s.verifyInEtcd(ctx, of, c, r); err == nil || view.Revision > 0 {
			view.Index = c.lastChange // what is newer, the copy tells of in a moment
			return items, view, err
		}
	}
	return nil, Freshness{}, discovery.Errorf(discovery.ErrUnavailable,
		"the copy of %q is %v old, %v is asked for, and etcd does not answer; ask for an older one, or try again", s.displayName(of), age.Round(time.Millisecond), r.MaxAge)
}

// freshness is how sure an answer from a copy is.
func (s *Store) freshness(now *state, c *cachedRange) Freshness {
	age := time.Since(now.confirmed)
	return Freshness{Revision: c.deliveredUpTo, Epoch: now.epoch, Index: c.lastChange, Age: age, Stale: age > s.options.StaleAfter}
}

// cached returns the state and the copy that holds a range. If there is none, that of a
// wider range is made; nil when that is too large, or takes a while.
func (s *Store) cached(ctx context.Context, of, wider reflector.Range) (*state, *cachedRange, error) {
	for {
		now := s.state.Load()
		if c := now.covering(of); c != nil {
			c.touch()
			return now, c, nil
		}
		joined, err := s.ensureCached(ctx, wider)
		if err != nil || !joined {
			return now, nil, err
		}
	}
}

// ensureCached copies a range, or waits for somebody who does. It reports false when the copy is
// not to be waited for.
func (s *Store) ensureCached(ctx context.Context, r reflector.Range) (bool, error) {
	s.activate.Do(func() { close(s.activated) })
	if s.isTooLarge(r) {
		return false, nil
	}
	s.mu.Lock()
	joining, ok := s.loading[r]
	if !ok {
		joining = make(chan struct{})
		s.loading[r] = joining
	}
	s.mu.Unlock()
	if ok {
		select {
		case <-joining:
			return true, nil // or the caller tries by itself
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.loading, r)
		close(joining)
	}()
	return s.load(ctx, r)
}

// isTooLarge reports whether a range was too large to be copied, not long ago.
func (s *Store) isTooLarge(r reflector.Range) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, ok := s.tooLarge[r]
	return ok && time.Now().Before(until)
}

// load copies a range, unless that takes more than the store may. It reports whether the
// copy is there, and complete.
func (s *Store) load(ctx context.Context, r reflector.Range) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := s.reflector.Add(ctx, r, true); err != nil {
		if why := s.reflector.Health().Err; why != nil && errors.Is(err, context.DeadlineExceeded) {
			err = why
		}
		return false, fmt.Errorf("copy %q: %w", s.displayName(r), err)
	}
	now := s.state.Load()
	if c := now.find(r); c != nil && now.size > s.options.MaxCachedBytes {
		s.mu.Lock()
		s.tooLarge[r] = time.Now().Add(tooLargeTTL)
		s.mu.Unlock()
		return false, s.evict(ctx, c)
	}
	_, complete := s.awaitRevision(ctx, r, 0, catchUpTimeout)
	return complete != nil, nil
}

// hasRevision reports whether a copy has all up to a revision: one of the life of etcd that it
// follows, which it does not know while the watch is broken.
func (s *Store) hasRevision(c *cachedRange, revision int64) bool {
	return c.deliveredUpTo >= revision && s.reflector.Health().Err == nil
}

// awaitRevision waits for a copy to come to a revision; nil when that takes too long.
func (s *Store) awaitRevision(ctx context.Context, of reflector.Range, revision int64, most time.Duration) (*state, *cachedRange) {
	late := time.NewTimer(most)
	defer late.Stop()
	for {
		changed := s.Changed()
		now := s.state.Load()
		if c := now.covering(of); c != nil && s.hasRevision(c, revision) {
			return now, c
		}
		select {
		case <-changed:
		case <-late.C:
			return nil, nil
		case <-ctx.Done():
			return nil, nil
		}
	}
}

// verifyInEtcd asks etcd, but not for long if the copy may do.
func (s *Store) verifyInEtcd(ctx context.Context, of reflector.Range, c *cachedRange, r Read) (iter.Seq[Item], Freshness, error) {
	if c.deliveredUpTo >= r.MinRevision {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, verifyTimeout)
		defer cancel()
	}
	return s.readEtcd(ctx, of, r)
}

// readEtcd reads a range from etcd, which has every write that it answered: a revision that it
// has not is not its own, which is an error with the view that says so.
func (s *Store) readEtcd(ctx context.Context, of reflector.Range, r Read) (iter.Seq[Item], Freshness, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var items []Item
	at, err := reflector.List(ctx, s.client, of, func(page []*mvccpb.KeyValue) {
		for _, kv := range page {
			items = append(items, itemOf(kv))
		}
	})
	if err != nil {
		return nil, Freshness{}, err
	}
	if at.Revision < r.MinRevision {
		return nil, Freshness{Revision: at.Revision}, discovery.Errorf(discovery.ErrUnavailable,
			"etcd is at revision %d, and %d is asked for, which it never answered, or lost in a restore; read without it", at.Revision, r.MinRevision)
	}
	return slices.Values(items), Freshness{Revision: at.Revision, Index: at.Revision}, nil
}
