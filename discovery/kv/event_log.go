package kv

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"strings"
	"time"

	"disc/discovery"
	"disc/discovery/reflector"
)

// Event is a write or deletion of a key.
type Event struct {
	Revision int64
	Key      string
	Item     *Item // nil: deleted
}

// The bounds of an event log. When it has more, it drops the older half.
const (
	maxLogEvents = 8192
	maxLogBytes  = 16 << 20
	// unwatchedTTL is how long the events of keys are recorded after their last watcher is gone,
	// so that it can come back.
	unwatchedTTL = time.Minute
)

// eventLog has the last events of the keys that are watched, in the order in which they came;
// those of one directory are in the order of their revisions.
type eventLog struct {
	events    []Event
	size      int64                // of the events, in bytes
	interests map[string]*interest // by key or prefix
}

// interest is what readers want of a key or a prefix.
type interest struct {
	watchers int       // their events are recorded
	waiters  int       // they only want to know when it changes
	watched  time.Time // when a watcher was last there; zero: never
	// recordedAfter is a revision after which the log has all events.
	recordedAfter int64
}

func newEventLog() eventLog { return eventLog{interests: map[string]*interest{}} }

// isWatched reports whether events are recorded.
func (i *interest) isWatched() bool { return i.watchers > 0 || time.Since(i.watched) < unwatchedTTL }

// recorded yields the interests whose events include those of a key.
func (l *eventLog) recorded(key string) iter.Seq[*interest] {
	return func(yield func(*interest) bool) {
		for what, ok := key, len(l.interests) > 0; ok; what, ok = directoryOf(what) {
			if i := l.interests[what]; i != nil && i.isWatched() && !yield(i) {
				return
			}
		}
	}
}

// directoryOf returns the directory that a key or a directory lies in; "" has none.
func directoryOf(what string) (string, bool) {
	return what[:strings.LastIndexByte(strings.TrimSuffix(what, "/"), '/')+1], what != ""
}

// add records an event if somebody watches its key.
func (l *eventLog) add(e Event) {
	for range l.recorded(e.Key) {
		l.events, l.size = append(l.events, e), l.size+e.cost()
		break
	}
	if len(l.events) <= maxLogEvents && l.size <= maxLogBytes {
		return
	}
	dropped := 0
	for ; len(l.events)-dropped > maxLogEvents/2 || l.size > maxLogBytes/2; dropped++ {
		e := l.events[dropped]
		l.size -= e.cost()
		for i := range l.recorded(e.Key) {
			i.recordedAfter = max(i.recordedAfter, e.Revision)
		}
	}
	l.events = slices.Clone(l.events[dropped:])
}

// clear drops all events, whose revisions are void. No watcher of them goes on: it has another
// epoch.
func (l *eventLog) clear() {
	l.events, l.size = nil, 0
	for _, i := range l.interests {
		i.recordedAfter = 0
	}
}

// expire ends the interests that nobody has any more, and drops the events that nobody watches.
func (l *eventLog) expire() {
	for what, i := range l.interests {
		if i.waiters == 0 && !i.isWatched() {
			delete(l.interests, what)
		}
	}
	var kept []Event
	for _, e := range l.events {
		for range l.recorded(e.Key) {
			kept = append(kept, e)
			break
		}
	}
	if l.size = 0; len(kept) == len(l.events) {
		kept = l.events
	}
	for _, e := range kept {
		l.size += e.cost()
	}
	l.events = kept
}

// awaited returns the keys and prefixes that somebody watches or waits for.
func (l *eventLog) awaited() []string {
	var all []string
	for what, i := range l.interests {
		if i.waiters > 0 || i.isWatched() {
			all = append(all, what)
		}
	}
	return all
}

func (e Event) cost() int64 {
	if e.Item == nil {
		return itemCost(len(e.Key), 0)
	}
	return itemCost(len(e.Key), len(e.Item.Value))
}

// interestIn returns the interest in a key or prefix. The caller holds s.mu.
func (s *Store) interestIn(what string) *interest {
	i := s.eventLog.interests[what]
	if i == nil {
		i = &interest{}
		s.eventLog.interests[what] = i
	}
	return i
}

// watch begins to record the events of a key or prefix, or goes on. The caller holds s.mu.
func (s *Store) watch(what string) *interest {
	i := s.interestIn(what)
	if !i.isWatched() {
		i.recordedAfter = s.lastChange(what)
		for wider := range s.eventLog.recorded(what) {
			i.recordedAfter = min(i.recordedAfter, wider.recordedAfter)
		}
	}
	i.watched = time.Now()
	return i
}

// lastChange returns the revision of the last change of a key or prefix that the cache knows.
func (s *Store) lastChange(what string) (last int64) {
	r := s.rangeOf(what)
	for _, cr := range s.state.Load().ranges {
		if cr.Covers(r) || r.Covers(cr.Range) {
			last = max(last, cr.lastChange)
		}
	}
	return last
}

// Watch keeps a key or a prefix cached, as soon as it was read, and its events recorded for
// [Store.Events], until release is called, which is to be done once.
func (s *Store) Watch(keyOrPrefix string) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watch(keyOrPrefix).watchers++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		i := s.watch(keyOrPrefix)
		i.watchers--
	}
}

// Snapshot returns the cached items at the start of a watch of a key or prefix; its
// changes follow from [Store.Events]. There may be no items. Errors: ErrInvalid for a bad
// key or prefix, or one with too much below it to cache; ErrUnavailable.
func (s *Store) Snapshot(ctx context.Context, keyOrPrefix string) (iter.Seq[Item], Freshness, error) {
	if err := ValidateKeyOrPrefix(keyOrPrefix); err != nil {
		return nil, Freshness{}, err
	}
	s.mu.Lock()
	s.watch(keyOrPrefix)
	s.mu.Unlock()
	rng := s.rangeOf(keyOrPrefix)
	directory := rng
	if !isPrefix(keyOrPrefix) {
		directory = s.directory(keyOrPrefix)
	}
	cached, err := s.cached(ctx, []target{{rng, directory}})
	if err == nil && !cached && rng != directory && s.whyRefused(directory) != "" {
		cached, err = s.cached(ctx, []target{{rng, rng}}) // the key alone
	}
	if err != nil {
		return nil, Freshness{}, err
	}
	why := s.whyRefused(rng)
	switch {
	case !cached && why != "":
		return nil, Freshness{}, discovery.Errorf(discovery.ErrInvalid, "%q cannot be watched, as it is not copied: %s; watch a longer prefix, or single keys", keyOrPrefix, why)
	case !cached && !s.state.Load().knows(rng):
		return nil, Freshness{}, discovery.Errorf(discovery.ErrUnavailable, "%q cannot be watched now: %d directories and keys are copied, the most that are, and all are in use; watch a shorter prefix, or try again", keyOrPrefix, s.bounds.ranges)
	}
	now, at, ok := s.awaitCut(ctx, 0, callTimeout, rng)
	if !ok {
		return nil, Freshness{}, discovery.Errorf(discovery.ErrUnavailable, "the cache of %q is not complete yet; try again", s.displayName(directory))
	}
	return s.allExternal(now.in(rng)), s.freshness(now, at), nil
}

func isPrefix(s string) bool { return s == "" || strings.HasSuffix(s, "/") }

// rangeOf returns the range of a key or of a prefix.
func (s *Store) rangeOf(keyOrPrefix string) reflector.Range {
	if isPrefix(keyOrPrefix) {
		return s.prefixRange(keyOrPrefix)
	}
	return s.keyRange(keyOrPrefix)
}

// Events returns the changes of a key, or below a prefix, after a cursor, oldest first,
// and the cursor up to which it has all of them. ok is false when the event log does not
// have them any more: the reader starts over from a list. The event log has them while somebody
// watches, and for a minute after that, but no more than 16 MiB of all keys.
func (s *Store) Events(keyOrPrefix string, after discovery.Cursor) (events []Event, upTo discovery.Cursor, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.state.Load()
	i := s.watch(keyOrPrefix)
	cr := now.covering(s.rangeOf(keyOrPrefix))
	if cr == nil || after.Epoch != now.epoch || after.Revision < max(cr.listedAt, i.recordedAfter) || after.Revision > now.upTo(cr) {
		return nil, discovery.Cursor{}, false
	}
	cr.touch()
	upTo = discovery.Cursor{Epoch: now.epoch, Revision: now.upTo(cr)}
	for _, e := range s.eventLog.events {
		if e.Revision > after.Revision && e.Revision <= upTo.Revision && (e.Key == keyOrPrefix || isPrefix(keyOrPrefix) && strings.HasPrefix(e.Key, keyOrPrefix)) {
			if e.Item != nil {
				item := s.external(*e.Item)
				e.Item = &item
			}
			events = append(events, e)
		}
	}
	slices.SortStableFunc(events, func(a, b Event) int { return cmp.Compare(a.Revision, b.Revision) })
	return events, upTo, true
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
