package kv

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"strings"

	"disc/discovery"
	"disc/discovery/reflector"
)

// Event is a write or deletion of a key.
type Event struct {
	Revision int64
	Key      string
	Item     *Item // nil: deleted
}

// historySize is the least number of events that the history has for watchers that fall
// behind, once there were as many.
const historySize = 4096

// history has the last events in the order in which they came; those of one directory are
// in the order of their revisions.
type history struct {
	events        []Event
	completeAfter int64 // it has all events after this revision
}

func (h *history) add(e Event) {
	if h.events = append(h.events, e); len(h.events) > 2*historySize {
		dropped := len(h.events) - historySize
		for _, e := range h.events[:dropped] {
			h.completeAfter = max(h.completeAfter, e.Revision)
		}
		h.events = append([]Event(nil), h.events[dropped:]...)
	}
}

// Snapshot returns the cached items at the start of a watch of a key or prefix; its
// changes follow from [Store.Events]. There may be no items. Errors: ErrInvalid for a bad
// key or prefix, or one with too much below it to cache; ErrUnavailable.
func (s *Store) Snapshot(ctx context.Context, keyOrPrefix string) (iter.Seq[Item], Freshness, error) {
	if err := ValidateKeyOrPrefix(keyOrPrefix); err != nil {
		return nil, Freshness{}, err
	}
	rng, wider := s.keyRange(keyOrPrefix), s.directory(keyOrPrefix)
	if isPrefix(keyOrPrefix) {
		rng, wider = s.prefixRange(keyOrPrefix), s.prefixRange(keyOrPrefix)
	}
	now, cr, err := s.cached(ctx, rng, wider)
	switch {
	case err != nil:
		return nil, Freshness{}, err
	case cr == nil && s.isTooLarge(wider):
		return nil, Freshness{}, discovery.Errorf(discovery.ErrInvalid, "%q cannot be watched: there is too much below %q to cache; watch a longer prefix", keyOrPrefix, s.displayName(wider))
	case cr == nil:
		if now, cr = s.awaitRevision(ctx, rng, 0, callTimeout); cr == nil {
			return nil, Freshness{}, discovery.Errorf(discovery.ErrUnavailable, "the cache of %q is not complete yet; try again", s.displayName(wider))
		}
	}
	return s.allExternal(now.in(rng)), s.freshness(now, cr), nil
}

func isPrefix(s string) bool { return s == "" || strings.HasSuffix(s, "/") }

// Events returns the changes of a key, or below a prefix, after a cursor, oldest first,
// and the cursor up to which it has all of them. ok is false when the history does not
// have them any more: the reader starts over from a list.
func (s *Store) Events(keyOrPrefix string, after discovery.Cursor) (events []Event, upTo discovery.Cursor, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.state.Load()
	rng, matches := s.keyRange(keyOrPrefix), func(key string) bool { return key == keyOrPrefix }
	if isPrefix(keyOrPrefix) {
		rng, matches = s.prefixRange(keyOrPrefix), func(key string) bool { return strings.HasPrefix(key, keyOrPrefix) }
	}
	cr := now.covering(rng)
	if cr == nil || after.Epoch != now.epoch || after.Revision < max(cr.listedAt, s.history.completeAfter) || after.Revision > cr.deliveredUpTo {
		return nil, discovery.Cursor{}, false
	}
	cr.touch()
	for _, e := range s.history.events {
		if e.Revision > after.Revision && e.Revision <= cr.deliveredUpTo && matches(e.Key) {
			if e.Item != nil {
				item := s.external(*e.Item)
				e.Item = &item
			}
			events = append(events, e)
		}
	}
	slices.SortStableFunc(events, func(a, b Event) int { return cmp.Compare(a.Revision, b.Revision) })
	return events, discovery.Cursor{Epoch: now.epoch, Revision: cr.deliveredUpTo}, true
}

// Changed returns a channel that is closed at the next change in any cached range. A
// reader gets the channel first and reads second, so that it misses no change.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// displayName returns a range's name for error texts.
func (s *Store) displayName(r reflector.Range) string { return strings.TrimPrefix(r.From, s.prefix) }
