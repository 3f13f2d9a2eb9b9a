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

// logSize is how many events are kept for watchers that fall behind.
const logSize = 4096

// eventLog has the last events in the order in which they came; those of one directory in
// the order of their revisions.
type eventLog struct {
	events []Event
	begin  int64 // revision after which it has all
}

func (l *eventLog) add(e Event) {
	if l.events = append(l.events, e); len(l.events) > 2*logSize {
		forgotten := len(l.events) - logSize
		for _, e := range l.events[:forgotten] {
			l.begin = max(l.begin, e.Revision)
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
	of, wider := s.only(what), s.directory(what)
	if isPrefix(what) {
		of, wider = s.below(what), s.below(what)
	}
	now, c, err := s.copyOf(ctx, of, wider)
	switch {
	case err != nil:
		return nil, Freshness{}, err
	case c == nil && s.isLarge(wider):
		return nil, Freshness{}, discovery.Errorf(discovery.ErrInvalid, "%q cannot be watched: there is too much below %q to be held in memory; watch a longer prefix", what, s.name(wider))
	case c == nil:
		if now, c = s.await(ctx, of, 0, callTime); c == nil {
			return nil, Freshness{}, discovery.Errorf(discovery.ErrUnavailable, "the copy of %q is not complete yet; try again", s.name(wider))
		}
	}
	return s.allShown(now.in(of)), s.view(now, c), nil
}

func isPrefix(what string) bool { return what == "" || strings.HasSuffix(what, "/") }

// Events returns what happened to a key, or below a prefix, after a position, oldest
// first, and the position up to where. ok is false when that is not known any more: the
// reader starts over from a list.
func (s *Store) Events(what string, after discovery.Cursor) (events []Event, upTo discovery.Cursor, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.state.Load()
	of, concerns := s.only(what), func(key string) bool { return key == what }
	if isPrefix(what) {
		of, concerns = s.below(what), func(key string) bool { return strings.HasPrefix(key, what) }
	}
	c := now.covering(of)
	if c == nil || after.Epoch != now.epoch || after.Revision < max(c.since, s.events.begin) || after.Revision > c.told {
		return nil, discovery.Cursor{}, false
	}
	c.touch()
	for _, e := range s.events.events {
		if e.Revision > after.Revision && e.Revision <= c.told && concerns(e.Key) {
			if e.Item != nil {
				item := s.shown(*e.Item)
				e.Item = &item
			}
			events = append(events, e)
		}
	}
	slices.SortStableFunc(events, func(a, b Event) int { return cmp.Compare(a.Revision, b.Revision) })
	return events, discovery.Cursor{Epoch: now.epoch, Revision: c.told}, true
}

// Changed returns a channel that is closed at the next change of anything that is copied.
// A reader takes it first and reads second, so that it misses nothing.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// name is a range as it is named in errors.
func (s *Store) name(r reflector.Range) string { return strings.TrimPrefix(r.From, s.prefix) }
