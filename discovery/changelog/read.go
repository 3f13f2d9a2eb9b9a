package changelog

import (
	"math"
	"slices"
	"time"

	"disc/discovery"
)

// Query selects changes of a log. The zero value selects the newest of all services.
type Query struct {
	Service string // in any case; empty: all
	ID      string // empty: all
	Since   time.Time
	Until   time.Time
	Before  string // a cursor: only changes before it
	After   string // a cursor: only changes after it, the oldest first
	Limit   int    // most changes; 0: no bound
	Follow  bool   // with After: the reader knows where the changes begin, unless some were skipped
}

// Page are changes of a log, oldest first.
type Page struct {
	Begins  *discovery.ChangeStart // from where on the log has all changes; nil: it has none of the service
	Changes []discovery.Change
	More    bool   // there are more: older ones or, with After, newer ones
	Skipped bool   // with After: there were newer ones before these, which had no room
	End     string // the cursor of the newest change of the log, whether it is in the page or not
	Watched bool   // changes come in now
}

// Read returns the changes that a query selects. Where there are more than q.Limit, they are the
// newest ones; with q.After, the oldest. ErrCursor: a cursor is not of this log.
func (l *Log) Read(q Query) (Page, error) {
	if l == nil {
		return Page{}, nil
	}
	r := reader{log: l, query: q}
	after, err := l.bound(q.After, 0)
	if err != nil {
		return Page{}, err
	}
	if r.before, err = l.bound(q.Before, math.MaxInt64); err != nil {
		return Page{}, err
	}
	r.after = after
	l.mu.Lock()
	chunks := slices.Clone(l.chunks)
	floor, next := l.floor, l.next
	r.page.Watched = l.watched[""] || l.watched[discovery.FoldName(q.Service)]
	l.mu.Unlock()
	r.page.End = l.cursor(next - 1)
	r.page.Skipped = len(chunks) > 0 && q.After != "" && r.after < chunks[0].first-1
	r.started = q.Service == "" || q.Follow && q.After != "" && !r.page.Skipped
	for _, c := range chunks {
		if last := c.first + c.count - 1; last > r.after || !r.started {
			r.readChunk(c)
		}
	}
	r.finish(floor)
	return r.page, nil
}

// bound returns the number of the entry at a cursor or, without one, that of no bound.
func (l *Log) bound(cursor string, none int64) (int64, error) {
	if cursor == "" {
		return none, nil
	}
	n, ok := l.number(cursor)
	if !ok {
		return 0, ErrCursor
	}
	return n, nil
}

// reader reads the chunks of a log from the oldest on.
type reader struct {
	log           *Log
	query         Query
	after, before int64 // numbers of the entries between which the page lies
	page          Page

	started  bool                   // where the changes begin is known, or of no interest
	began    *discovery.ChangeStart // where the watch of the service began, if that is in the log
	unbegun  bool                   // the service was watched before the oldest entry
	selected []selected             // the entries of the page: the newest Limit ones, or the oldest
}

type selected struct {
	number int64
	parts  parts
}

func (r *reader) readChunk(c chunk) {
	d := decoder{c.data}
	for number := c.first; number < c.first+c.count; number++ {
		p, ok := d.next()
		if !ok {
			return
		}
		if len(p.data) > 0 && (number > r.after || !r.started) {
			r.readEntry(number, p)
		}
	}
}

func (r *reader) readEntry(number int64, whole parts) {
	p, e := whole, Entry{}
	service, id := p.header(&e)
	if r.query.Service != "" && len(service) > 0 && discovery.FoldName(string(service)) != discovery.FoldName(r.query.Service) {
		return
	}
	r.noteStart(&e)
	switch {
	case r.query.ID != "" && len(id) > 0 && string(id) != r.query.ID:
	case !r.query.Since.IsZero() && e.Seen.Before(r.query.Since.Truncate(time.Millisecond)):
	case !r.query.Until.IsZero() && e.Seen.After(r.query.Until):
	case number <= r.after, number >= r.before:
	default:
		r.selectEntry(number, whole)
	}
}

// noteStart notes where the changes of the service begin: at its first entry that says so.
func (r *reader) noteStart(e *Entry) {
	switch {
	case r.started:
	case e.Kind == discovery.ChangeWatched:
		r.began, r.started = &discovery.ChangeStart{Revision: e.Revision, Seen: e.Seen}, true
	case e.Kind != discovery.ChangeGap && e.Kind != discovery.ChangeStartedOver:
		r.unbegun, r.started = true, true
	}
}

func (r *reader) selectEntry(number int64, p parts) {
	limit := r.query.Limit
	if limit > 0 && len(r.selected) == limit {
		r.page.More = true
		if r.query.After != "" {
			return
		}
		r.selected = r.selected[1:]
	}
	r.selected = append(r.selected, selected{number, p})
}

func (r *reader) finish(floor *start) {
	r.page.Changes = make([]discovery.Change, 0, len(r.selected))
	for _, s := range r.selected {
		var e Entry
		service, id := s.parts.header(&e)
		e.Service, e.ID = string(service), string(id)
		s.parts.rest(&e)
		r.page.Changes = append(r.page.Changes, e.change(r.log.cursor(s.number)))
	}
	switch {
	case r.began != nil:
		r.page.Begins = r.began
	case floor != nil && (r.query.Service == "" || r.unbegun || r.page.Watched):
		r.page.Begins = &discovery.ChangeStart{Revision: floor.revision, Seen: floor.seen.UTC().Truncate(time.Millisecond), Dropped: floor.dropped}
	}
}

// change returns the entry as readers see it.
func (e *Entry) change(cursor string) discovery.Change {
	c := discovery.Change{
		Cursor: cursor, Revision: e.Revision, Seen: e.Seen, Service: e.Service, ID: e.ID, Change: e.Kind, Reason: e.Reason,
		Why: e.why(), Fields: e.Fields, Cut: e.Cut, Listed: e.Listed,
	}
	if !e.Since.IsZero() {
		c.Since = &e.Since
	}
	return c
}
