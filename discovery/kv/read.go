package kv

import (
	"context"
	"iter"
	"slices"
	"time"

	"disc/discovery"
	"disc/discovery/reflector"
)

const (
	// catchUpTimeout is how long a read waits for the cache to reach a revision before it
	// reads from etcd.
	catchUpTimeout = 250 * time.Millisecond
	// progressRetry is the time after which a read that waits asks etcd for progress again.
	progressRetry = 25 * time.Millisecond
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
	// KeysOnly accepts items without values in a list.
	KeysOnly bool
}

// Freshness is how current an answer is.
type Freshness struct {
	Revision int64         // etcd's; the answer is what etcd had then
	Epoch    string        // identifies the etcd that the revision belongs to; "" when etcd answered
	Index    int64         // differs after each change of the answer
	Age      time.Duration // since etcd last confirmed that the answer is current
	Stale    bool          // Age is above Options.StaleAfter
}

// Get returns the item of a key. Errors: ErrInvalid for a bad key; ErrNotFound, with the
// freshness of that answer; ErrUnavailable when etcd is away and the key is not cached, or
// the cache is older than r.MaxAge.
func (s *Store) Get(ctx context.Context, key string, r Read) (Item, Freshness, error) {
	if r == (Read{}) {
		if item, fresh, ok := s.GetCached(key); ok {
			return item, fresh, nil
		}
	}
	if err := ValidateKey(key); err != nil {
		return Item{}, Freshness{}, err
	}
	items, fresh, err := s.read(ctx, []target{{s.keyRange(key), s.directory(key)}}, r)
	if err != nil {
		return Item{}, Freshness{}, err
	}
	for found := range items {
		fresh.Index = found.Revision
		return s.external(found), fresh, nil
	}
	fresh.Index = 0
	return Item{}, fresh, discovery.Errorf(discovery.ErrNotFound, "key %q is not there", key)
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
	upTo := now.upTo(cr)
	if !ok || found.Revision > upTo || upTo < s.answeredUpTo(now) || ValidateKey(key) != nil { // another program has written an invalid key, which Get refuses
		return Item{}, Freshness{}, false
	}
	cr.touch()
	return s.external(found), s.freshness(now, cut{upTo, found.Revision}), true
}

// GetMany returns those of several keys that exist, in the order of the keys, all as they were at
// one revision. Its errors are those of [Store.Get], but for ErrNotFound.
func (s *Store) GetMany(ctx context.Context, keys []string, r Read) (iter.Seq[Item], Freshness, error) {
	targets := make([]target, len(keys))
	for n, key := range keys {
		if err := ValidateKey(key); err != nil {
			return nil, Freshness{}, err
		}
		targets[n] = target{s.keyRange(key), s.directory(key)}
	}
	if len(targets) == 0 {
		return nil, Freshness{}, discovery.Errorf(discovery.ErrInvalid, "no key is named; name at least one")
	}
	items, fresh, err := s.read(ctx, targets, r)
	if err != nil {
		return nil, Freshness{}, err
	}
	return s.allExternal(items), fresh, nil
}

// List returns the items below a prefix, sorted by key; see [ValidatePrefix]. There may be
// none. ErrInvalid: the prefix is bad, or what is below it is neither cached nor small enough to
// be read at once. Its other errors are those of [Store.Get].
func (s *Store) List(ctx context.Context, prefix string, r Read) (iter.Seq[Item], Freshness, error) {
	if err := ValidatePrefix(prefix); err != nil {
		return nil, Freshness{}, err
	}
	below := s.prefixRange(prefix)
	items, fresh, err := s.read(ctx, []target{{below, below}}, r)
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

// target is a range to read, and the one to cache where it is not cached.
type target struct {
	reflector.Range
	wider reflector.Range
}

// read returns the items of ranges at one revision, from the cache or from etcd. There are
// several ranges only if each is a single key.
func (s *Store) read(ctx context.Context, targets []target, r Read) (iter.Seq[Item], Freshness, error) {
	ranges := make([]reflector.Range, len(targets))
	for n, t := range targets {
		ranges[n] = t.Range
	}
	if r.Linearizable {
		return s.readEtcd(ctx, ranges, r)
	}
	cached, err := s.cached(ctx, targets)
	if err != nil {
		return nil, Freshness{}, err
	}
	now := s.state.Load()
	switch {
	case !cached && slices.ContainsFunc(ranges, func(rng reflector.Range) bool { return !now.knows(rng) }):
		return s.readEtcd(ctx, ranges, r)
	case !cached:
		return s.readBeside(ctx, ranges, r)
	}
	at, ok := now.cut(ranges...)
	if err := s.reflector.Health().Err; !ok && err != nil {
		return nil, Freshness{}, discovery.Errorf(discovery.ErrUnavailable,
			"the copies of these keys are not of one revision, and etcd does not answer (%v); read them one by one, or try again", err)
	}
	least := r.MinRevision
	if answered := s.answeredUpTo(now); at.revision < answered && s.reflector.Health().Err == nil {
		least = max(least, answered)
	}
	if !ok || least > 0 && !s.hasRevision(at, least) {
		if later, laterAt, reached := s.awaitCut(ctx, least, catchUpTimeout, ranges...); reached {
			now, at = later, laterAt
		} else if items, fresh, err := s.verifyInEtcd(ctx, ranges, ok && at.revision >= r.MinRevision, r); err == nil || fresh.Revision > 0 || !ok || at.revision < r.MinRevision {
			return items, fresh, err
		} // else etcd is away: answer from the cache
	}
	fresh := s.freshness(now, at)
	if r.MaxAge > 0 && fresh.Age > r.MaxAge {
		return s.readNewer(ctx, ranges, at, r, fresh.Age)
	}
	return now.all(ranges), fresh, nil
}

// all returns the items of ranges.
func (s *state) all(ranges []reflector.Range) iter.Seq[Item] {
	if len(ranges) == 1 {
		return s.in(ranges[0])
	}
	return func(yield func(Item) bool) {
		for _, r := range ranges {
			for i := range s.in(r) {
				if !yield(i) {
					return
				}
			}
		}
	}
}

// readNewer reads from etcd because the cache is older than r.MaxAge, as it may be while
// nothing changes. It makes no request if etcd is known to be away.
func (s *Store) readNewer(ctx context.Context, ranges []reflector.Range, cached cut, r Read, age time.Duration) (iter.Seq[Item], Freshness, error) {
	if s.reflector.Health().Err == nil {
		if items, fresh, err := s.verifyInEtcd(ctx, ranges, cached.revision >= r.MinRevision, r); err == nil || fresh.Revision > 0 {
			fresh.Index = cached.lastChange // if there are newer changes, the cache has them in a moment
			return items, fresh, err
		}
	}
	return nil, Freshness{}, discovery.Errorf(discovery.ErrUnavailable,
		"the cache of %q is %v old, above the limit of %v, and etcd does not answer; allow a greater age, or try again", s.displayName(ranges[0]), age.Round(time.Millisecond), r.MaxAge)
}

// freshness returns the freshness of an answer from a state.
func (s *Store) freshness(now *state, at cut) Freshness {
	age := time.Since(now.confirmed)
	return Freshness{Revision: at.revision, Epoch: now.epoch, Index: at.lastChange, Age: age, Stale: age > s.options.StaleAfter}
}

// cached caches the ranges that are not. It returns false when one is not to be cached.
func (s *Store) cached(ctx context.Context, targets []target) (bool, error) {
	for _, t := range targets {
		for {
			if cr := s.state.Load().covering(t.Range); cr != nil {
				cr.touch()
				break
			}
			if loaded, err := s.ensureCached(ctx, t.wider); err != nil || !loaded {
				return false, err
			}
		}
	}
	return true, nil
}

// hasRevision reports whether a cut of the cache has all writes up to a revision. While the
// watch is broken it does not: the revision may be of an etcd that replaced the watched one.
func (s *Store) hasRevision(at cut, revision int64) bool {
	return at.revision >= revision && s.reflector.Health().Err == nil
}

// awaitCut waits until the cache has ranges as they were at a revision or later. ok is false when
// it has not in time. Where nothing changes in the ranges, an answer of etcd tells that they have
// reached the revision.
func (s *Store) awaitCut(ctx context.Context, revision int64, timeout time.Duration, ranges ...reflector.Range) (now *state, at cut, ok bool) {
	timer, again := time.NewTimer(timeout), time.NewTicker(progressRetry)
	defer timer.Stop()
	defer again.Stop()
	for {
		published := s.nextState()
		now = s.state.Load()
		if at, ok = now.cut(ranges...); ok && s.hasRevision(at, revision) {
			return now, at, true
		}
		s.reflector.RequestProgress()
		select {
		case <-published:
		case <-again.C:
		case <-timer.C:
			return nil, cut{}, false
		case <-ctx.Done():
			return nil, cut{}, false
		}
	}
}

// nextState returns a channel that is closed when there is another state.
func (s *Store) nextState() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.published
}

// verifyInEtcd reads from etcd, for at most verifyTimeout if the cache has r.MinRevision.
func (s *Store) verifyInEtcd(ctx context.Context, ranges []reflector.Range, cached bool, r Read) (iter.Seq[Item], Freshness, error) {
	if cached {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, verifyTimeout)
		defer cancel()
	}
	return s.readBeside(ctx, ranges, r)
}

// readBeside reads from etcd what is cached, but cannot be answered from the cache at the moment.
func (s *Store) readBeside(ctx context.Context, ranges []reflector.Range, r Read) (iter.Seq[Item], Freshness, error) {
	epoch := s.state.Load().epoch
	items, fresh, err := s.readEtcd(ctx, ranges, r)
	if err == nil {
		s.noteAnswer(etcdAnswer{epoch, fresh.Revision})
	}
	return items, fresh, err
}

// etcdAnswer is a revision of which etcd has answered what is cached, in one of its lives.
type etcdAnswer struct {
	epoch    string
	revision int64
}

// noteAnswer remembers an answer of etcd, so that the cache gives none from before it.
func (s *Store) noteAnswer(a etcdAnswer) {
	for {
		last := s.answered.Load()
		if last != nil && last.epoch == a.epoch && last.revision >= a.revision || s.answered.CompareAndSwap(last, &a) {
			return
		}
	}
}

// answeredUpTo returns the revision that the cache is to reach before it answers, while etcd is not
// away: that of the last answer that etcd gave beside it.
func (s *Store) answeredUpTo(now *state) int64 {
	if last := s.answered.Load(); last != nil && last.epoch == now.epoch {
		return last.revision
	}
	return 0
}
