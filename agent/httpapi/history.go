package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"disc/agent/access"
	"disc/agent/api"
	"disc/discovery"
)

func (a *API) historyRoutes() []route {
	params := []string{"service", "id", "since", "until", "before", "after", "limit"}
	return []route{{method: "GET", path: "/v1/history", params: params, scope: access.Read, handle: a.history}}
}

// history answers with the changes that the agent saw, or with a stream of those that are to come.
func (a *API) history(w http.ResponseWriter, r request) error {
	q, err := historyQuery(r.query)
	if err != nil {
		return err
	}
	if wantsEvents(r.Header.Get("Accept")) {
		return a.followHistory(w, r, q)
	}
	if err := a.startWork(r); err != nil {
		return err
	}
	h, err := a.backends.History.Read(q)
	if err != nil {
		return err
	}
	return a.replyValue(w, http.StatusOK, h)
}

func historyQuery(p params) (q HistoryQuery, err error) {
	if n := len(p.Values["service"]); n > 1 {
		return q, invalid("query parameter %q is given %d times; ask for one service, or all", "service", n)
	}
	q = HistoryQuery{Service: p.Get("service"), ID: p.Get("id"), Before: p.Get("before"), After: p.Get("after")}
	if p.Has("service") {
		err = discovery.ValidateService(q.Service)
	}
	if p.Has("id") {
		err = errors.Join(err, discovery.ValidateID(q.ID))
		if q.Service == "" {
			err = invalid("id needs service: an id belongs to a service")
		}
	}
	if err != nil {
		return q, err
	}
	now := time.Now()
	if q.Since, err = pastTime(p, "since", now); err != nil {
		return q, err
	}
	if q.Until, err = pastTime(p, "until", now); err != nil {
		return q, err
	}
	if q.Limit, err = number(p, "limit", strconv.Atoi, api.DefaultHistoryLimit); err != nil {
		return q, err
	}
	if q.Limit < 1 || q.Limit > api.MaxHistoryLimit {
		return q, invalid("limit %d is out of range; use 1 to %d", q.Limit, api.MaxHistoryLimit)
	}
	return q, nil
}

// pastTime reads a parameter that is a time, or a duration before now; the zero time: it is not
// given.
func pastTime(p params, name string, now time.Time) (time.Time, error) {
	if !p.Has(name) {
		return time.Time{}, nil
	}
	text := p.Get(name)
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, invalid("%s %q is neither a duration before now, such as 10m, nor a time, such as 2026-01-31T12:00:00Z", name, text)
	}
	return t, nil
}

// followHistory answers with changes as they come, as server-sent events.
func (a *API) followHistory(w http.ResponseWriter, r request, q HistoryQuery) error {
	for _, name := range []string{"since", "until", "before", "limit"} {
		if r.query.Has(name) {
			return invalid("%s is not for a stream of events, which begins after a cursor and has no end", name)
		}
	}
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		q.After = id
	}
	q.Follow = true
	f := historyWriter{api: a, w: w, r: r, query: q}
	if err := f.begin(); err != nil {
		return err
	}
	end, err := a.admit(r, a.reads)
	if err != nil {
		return err
	}
	defer end()
	h := w.Header()
	h.Set("Content-Type", api.TypeEvents)
	h.Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		return nil
	}
	defer a.metrics.streaming("history")()
	defer a.backends.Catalog.Retain(scopeOf(q.Service))()
	return a.stream(w, r, f.advance, f.beat)
}

// historyWriter writes one stream of changes.
type historyWriter struct {
	api   *API
	w     http.ResponseWriter
	r     request
	query HistoryQuery // its After is the cursor up to which changes were written
	reset *api.History // to be written before all changes; nil: the reader has what came before
}

// begin finds out where the stream begins: after a cursor of this agent's run or, after a reset, with
// the next change.
func (f *historyWriter) begin() error {
	probe := f.query
	probe.Limit = 1
	if probe.After != "" {
		if _, err := f.api.backends.History.Read(probe); !errors.Is(err, discovery.ErrInvalid) {
			return err
		}
		probe.After = ""
	}
	h, err := f.api.backends.History.Read(probe)
	if err != nil {
		return err
	}
	f.reset, f.query.After = withoutChanges(h), h.End
	return nil
}

func withoutChanges(h api.History) *api.History {
	h.Changes, h.Truncated, h.Skipped = []discovery.Change{}, false, false
	return &h
}

// advance writes the changes after the cursor.
func (f *historyWriter) advance() (<-chan struct{}, error) {
	if f.reset != nil {
		if err := f.write(api.HistoryReset, f.reset, f.reset.End); err != nil {
			return nil, err
		}
		f.reset = nil
	}
	changed := f.api.backends.History.Changed()
	for {
		h, err := f.api.backends.History.Read(f.query)
		if err != nil {
			return nil, err
		}
		if h.Skipped { // the reader was too slow
			if err := f.write(api.HistoryReset, withoutChanges(h), f.query.After); err != nil {
				return nil, err
			}
		}
		for _, c := range h.Changes {
			if err := f.write(api.HistoryChange, c, c.Cursor); err != nil {
				return nil, err
			}
		}
		if !h.Truncated {
			f.query.After = h.End
			return changed, nil
		}
	}
}

func (f *historyWriter) write(kind string, value any, cursor string) error {
	f.query.After = cursor
	return f.api.writeEvent(f.w, f.r, func() ([]byte, error) {
		data, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("encode a change: %w", err)
		}
		var b bytes.Buffer
		fmt.Fprintf(&b, "id: %s\nevent: %s\ndata: %s\n\n", cursor, kind, data)
		return b.Bytes(), nil
	})
}

// beat writes a comment that keeps the connection alive.
func (f *historyWriter) beat() error {
	_, err := f.w.Write([]byte(": \n"))
	return err
}
