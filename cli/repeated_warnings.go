package cli

import (
	"context"
	"hash/maphash"
	"log/slog"
	"slices"
	"sync"
	"time"
)

const (
	// repeatWindow is how long a warning that repeats is held back.
	repeatWindow = time.Minute

	// maxRepeated bounds the warnings that are compared.
	maxRepeated = 256
)

// countersOfWarnings are the attributes in which a warning that repeats differs from the one before.
var countersOfWarnings = map[string]bool{"failures": true, "nonce": true}

// neverHeldBack are the attributes of warnings that are said each time: those that answer what
// somebody did (by, and setting after a reload), and those that limit and count themselves.
var neverHeldBack = map[string]bool{"by": true, "setting": true, "not_logged": true}

// repeatHandler is a handler of logs that says a warning once a minute. It holds back those like it,
// and says the newest of them when the minute ends, with their number. Errors, and what is less than
// a warning, it leaves alone.
type repeatHandler struct {
	slog.Handler
	context string // the attributes and groups of the logger
	said    *saidWarnings
}

// newRepeatHandler returns a handler that holds warnings back until stopped is closed: before the next
// record it says what it holds back, so that the last line of the log is the last.
func newRepeatHandler(stopped <-chan struct{}, h slog.Handler) repeatHandler {
	return repeatHandler{h, "", &saidWarnings{stopped: stopped, seed: maphash.MakeSeed(), by: map[uint64]*saidWarning{}}}
}

// Handle implements [slog.Handler].
func (h repeatHandler) Handle(ctx context.Context, r slog.Record) error {
	select {
	case <-h.said.stopped:
		h.said.close()
	default:
	}
	if r.Level != slog.LevelWarn {
		return h.Handler.Handle(ctx, r)
	}
	key, ok := h.key(r)
	if !ok {
		return h.Handler.Handle(ctx, r)
	}
	return h.said.handle(ctx, key, h.Handler, r)
}

// WithAttrs implements [slog.Handler].
func (h repeatHandler) WithAttrs(attributes []slog.Attr) slog.Handler {
	for _, a := range attributes {
		h.context += "\x00" + a.String()
	}
	h.Handler = h.Handler.WithAttrs(attributes)
	return h
}

// WithGroup implements [slog.Handler].
func (h repeatHandler) WithGroup(name string) slog.Handler {
	h.context += "\x00" + name + "."
	h.Handler = h.Handler.WithGroup(name)
	return h
}

// key is the same for warnings that repeat each other. It is not ok for those that are said each time.
// It is a hash: others choose a part of the text, and its length.
func (h repeatHandler) key(r slog.Record) (key uint64, ok bool) {
	var hash maphash.Hash
	hash.SetSeed(h.said.seed)
	hash.WriteString(r.Message + h.context)
	ok = true
	r.Attrs(func(a slog.Attr) bool {
		ok = !neverHeldBack[a.Key]
		if !countersOfWarnings[a.Key] {
			hash.WriteString("\x00" + a.String())
		}
		return ok
	})
	return hash.Sum64(), ok
}

// saidWarnings are the warnings that were said within the last minute, and those that are held back.
type saidWarnings struct {
	stopped <-chan struct{} // nil: never
	seed    maphash.Seed

	mu     sync.Mutex // held while a warning is written, so that close returns after the last
	by     map[uint64]*saidWarning
	timer  *time.Timer // says what is held back; nil: nothing is
	due    time.Time   // of timer
	closed bool
}

// saidWarning is a warning, and the newest like it that is held back.
type saidWarning struct {
	at      time.Time // when it was said last
	count   int       // how many are held back since then; 0: none, and no newest
	newest  *slog.Record
	handler slog.Handler // of newest
}

// handle says a warning, or holds it back.
func (s *saidWarnings) handle(ctx context.Context, key uint64, h slog.Handler, r slog.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return h.Handle(ctx, r)
	}
	now, before := time.Now(), s.by[key]
	if before != nil && (before.count > 0 || now.Sub(before.at) < repeatWindow) {
		r = r.Clone()
		before.count, before.newest, before.handler = before.count+1, &r, h
		s.wake(before.at.Add(repeatWindow))
		return nil
	}
	if before == nil && len(s.by) >= maxRepeated {
		s.evict()
	}
	s.by[key] = &saidWarning{at: now}
	return h.Handle(ctx, r)
}

// wake has what is held back be said at a time, or before.
func (s *saidWarnings) wake(due time.Time) {
	if s.timer != nil {
		if !due.Before(s.due) {
			return
		}
		s.timer.Stop()
	}
	s.due, s.timer = due, time.AfterFunc(time.Until(due), s.endWindows)
}

// endWindows says what has been held back for long enough, and forgets what did not repeat.
func (s *saidWarnings) endWindows() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.timer = nil
	now := time.Now()
	s.say(func(w *saidWarning) bool { return now.Sub(w.at) >= repeatWindow })
	for key, w := range s.by {
		switch {
		case w.count > 0:
			s.wake(w.at.Add(repeatWindow))
		case now.Sub(w.at) >= repeatWindow:
			delete(s.by, key)
		}
	}
}

// say says what is held back and fits, the oldest first. A minute begins for each.
func (s *saidWarnings) say(fits func(*saidWarning) bool) {
	var all []*saidWarning
	for _, w := range s.by {
		if w.count > 0 && fits(w) {
			all = append(all, w)
		}
	}
	slices.SortFunc(all, func(a, b *saidWarning) int { return a.newest.Time.Compare(b.newest.Time) })
	for _, w := range all {
		w.newest.AddAttrs(slog.Int("repeated", w.count))
		_ = w.handler.Handle(context.Background(), *w.newest) // as slog does
		*w = saidWarning{at: time.Now()}
	}
}

// evict makes room for a warning: it forgets the one that was said first, and says what is held back
// of it.
func (s *saidWarnings) evict() {
	var oldest uint64
	for key, w := range s.by {
		if o := s.by[oldest]; o == nil || w.at.Before(o.at) {
			oldest = key
		}
	}
	first := s.by[oldest]
	s.say(func(w *saidWarning) bool { return w == first })
	delete(s.by, oldest)
}

// close says what is held back. What comes afterwards is said at once.
func (s *saidWarnings) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.say(func(*saidWarning) bool { return true })
	s.closed = true
	clear(s.by)
	if s.timer != nil {
		s.timer.Stop()
	}
}
