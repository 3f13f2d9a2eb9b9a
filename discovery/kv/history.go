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

// historySize is how many events are kept for watchers that fall behind.
const historySize = 4096

// history has the last events in the order in which they came; those of one directory in
// the order of their revisions.
type history struct {
	events        []Event
	completeAfter int64 // revision after which it has all
}

func (l *history) add(e Event) {
	if l.events = append(l.events, e); len(l.events) > 2*historySize {
		forgotten := len(l.events) - historySize
		for _, e := range l.events[:forgotten] {
			l.completeAfter = max(l.completeAfter, e.Revision)
		}
		l.events = append([]Event(nil), l.events[forgotten:]...)
	}
}

// Snapshot returns what a watch of a key or below a prefix begins with: what the copy has
// whose [Store.Events] follow. Nothing is fine. Errors: an ErrInvalid key or prefix, also
// one below which there is too much to be copied; ErrUnavailable.
func (s *Store) Snapshot(ctx context.Context, what string) (iter.Seq[Item], Freshness, error) {
	if err := ValidateWatched(what); err != nil {
		return nil, Freshness{}, err
	}
	of, wider := s.keyRange(what), s.directory(what)
	if isPrefix(what) {
		of, wider = s.prefixRange(what), s.prefixRange(what)
	}
	now, c, err := s.cached(ctx, of, wider)
	switch {
	case err != nil:
		return nil, Freshness{}, err
	case c == nil && s.isTooLarge(wider):
		return nil, Freshness{}, discovery.Errorf(discovery.ErrInvalid, "%q cannot be watched: there is too much below %q to be held in memory; watch a longer prefix", what, s.displayName(wider))
	case c == nil:
		if now, c = s.awaitRevision(ctx, of, 0, callTimeout); c == nil {
			return nil, Freshness{}, discovery.Errorf(discovery.ErrUnavailable, "the copy of %q is not complete yet; try again", s.displayName(wider))
		}
	}
	return s.allExternal(now.in(of)), s.freshness(now, c), nil
}

func isPrefix(what string) bool { return what == "" || strings.HasSuffix(what, "/") }

// Events returns what happened to a key, or below a prefix, after a position, oldest
// first, and the position up to where. ok is false when that is not known any more: the
// reader starts over from a list.
func (s *Store) Events(what string, after discovery.Cursor) (events []Event, upTo discovery.Cursor, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.state.Load()
	of, concerns := s.keyRange(what), func(key string) bool { return key == what }
	if isPrefix(what) {
		of, concerns = s.prefixRange(what), func(key string) bool { return strings.HasPrefix(key, what) }
	}
	c := now.covering(of)
	if c == nil || after.Epoch != now.epoch || after.Revision < max(c.listedAt, s.history.completeAfter) || after.Revision > c.deliveredUpTo {
		return nil, discovery.Cursor{}, false
	}
	c.touch()
	for _, e := range s.history.events {
		if e.Revision > after.Revision && e.Revision <= c.deliveredUpTo && concerns(e.Key) {
			if e.Item != nil {
				item := s.external(*e.Item)
				e.Item = &item
			}
			events = append(events, e)
		}
	}
	slices.SortStableFunc(events, func(a, b Event) int { return cmp.Compare(a.Revision, b.Revision) })
	return events, discovery.Cursor{Epoch: now.epoch, Revision: c.deliveredUpTo}, true
}

// Changed returns a channel that is closed at the next change of anything that is copied.
// A reader takes it first and reads second, so that it misses nothing.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// displayName is a range as it is named in errors.
func (s *Store) displayName(r reflector.Range) string { return strings.TrimPrefix(r.From, s.prefix) }
