package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"disc/agent/access"
	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/view"
)

func (a *API) watchRoutes() []route {
	return []route{{method: "GET", path: "/v1/watch", params: []string{"service"}, scope: access.Read, handle: a.watch}}
}

// watch answers with server-sent events (WHATWG HTML standard, section 9.2).
func (a *API) watch(w http.ResponseWriter, r request) error {
	if n := len(r.query.Values["service"]); n > 1 {
		return invalid("query parameter %q is given %d times; watch one service, or all", "service", n)
	}
	service := r.query.Get("service")
	if r.query.Has("service") {
		if err := discovery.ValidateService(service); err != nil {
			return err
		}
	}
	view, err := a.ensuredView(r, scopeOf(service))
	if err != nil {
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
	h.Set(api.HeaderRevision, strconv.FormatInt(view.Revision(), 10))
	if r.Method == http.MethodHead {
		return nil
	}
	defer a.metrics.streaming("watch")()
	defer a.backends.Catalog.Retain(scopeOf(service))()
	t := eventWriter{catalog: a.backends.Catalog, service: service, w: w, r: r, api: a}
	t.resume(r.Header.Get("Last-Event-ID"), view)
	wake := func() (<-chan struct{}, error) {
		changed := a.backends.Catalog.Changed(service)
		return changed, t.advance()
	}
	return a.stream(w, r, wake, t.beat)
}

// eventWriter writes one stream of events. It buffers nothing: when the reader is too slow
// for the history of the catalog, the reader starts over with a reset.
type eventWriter struct {
	catalog Catalog
	service string // empty: all
	w       http.ResponseWriter
	r       request
	api     *API

	cursor    discovery.Cursor // up to which events were read from the catalog
	resumable bool             // the reader has the state at cursor
	lastID    discovery.Cursor // the last id that was written
}

// resume continues after the event with an id, if that is of this epoch and not ahead of
// this agent's view.
func (t *eventWriter) resume(lastEventID string, v view.View) {
	at, ok := discovery.ParseCursor(lastEventID)
	t.resumable = ok && at.Epoch == v.Snapshot.Epoch() && at.Compare(v.Snapshot.Cursor()) <= 0
	t.cursor, t.lastID = at, at
}

// advance writes the events after the cursor, or a reset when those are not known. It fails where
// etcd forbids to read the service, or not any more: the reader learns why when it comes back.
func (t *eventWriter) advance() error {
	current, err := t.api.ensuredView(t.r, scopeOf(t.service))
	if err != nil {
		return err
	}
	s := current.Snapshot
	var events []view.Event
	if t.resumable = t.resumable && t.cursor.Epoch == s.Epoch(); t.resumable {
		events, t.resumable = t.catalog.Events(t.service, t.cursor)
	}
	if !t.resumable {
		return t.reset(s)
	}
	t.cursor = later(t.cursor, s.Cursor())
	if len(events) > 0 {
		t.cursor = later(t.cursor, events[len(events)-1].Cursor(t.cursor.Epoch))
	}
	return t.changes(events)
}

func later(p, q discovery.Cursor) discovery.Cursor {
	if p.Compare(q) < 0 {
		return q
	}
	return p
}

func (t *eventWriter) reset(s *view.Snapshot) error {
	e := api.Event{Revision: s.Revision(), Service: t.service, Instances: []*view.Entry{}}
	if t.service == "" {
		for service := range s.Services() {
			e.Instances = append(e.Instances, service.Entries()...)
		}
	} else if service, ok := s.Service(t.service); ok {
		e.Instances = append(e.Instances, service.Entries()...)
	}
	t.resumable, t.cursor = true, s.Cursor()
	return t.write(api.EventReset, e, t.cursor)
}

// changes writes events. Of the events with one cursor only the last has a new id: a
// reader that is cut off between them resumes before the first.
func (t *eventWriter) changes(events []view.Event) error {
	own := make([]view.Event, 0, len(events))
	for _, e := range events {
		if t.service == "" || discovery.FoldName(e.Service) == discovery.FoldName(t.service) {
			own = append(own, e)
		}
	}
	for n, e := range own {
		id := e.Cursor(t.cursor.Epoch)
		if n+1 < len(own) && own[n+1].Cursor(t.cursor.Epoch) == id {
			id = t.lastID
		}
		out := api.Event{Revision: e.Revision, Service: e.Service, ID: e.ID, Instance: e.Entry, Reason: e.Reason}
		if err := t.write(e.Type, out, id); err != nil {
			return err
		}
	}
	return nil
}

// write writes one event, with its id if that differs from the last id.
func (t *eventWriter) write(kind view.EventType, e api.Event, id discovery.Cursor) error {
	err := t.api.writeEvent(t.w, t.r, func() ([]byte, error) {
		data, err := json.Marshal(e)
		if err != nil {
			return nil, fmt.Errorf("encode the %s event of revision %d: %w", kind, e.Revision, err)
		}
		var b bytes.Buffer
		if id != t.lastID {
			fmt.Fprintf(&b, "id: %s\n", id)
		}
		fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", kind, data)
		return b.Bytes(), nil
	})
	t.lastID = id
	return err
}

// beat writes a comment that keeps the connection alive. If the cursor has moved without
// an event for the reader, it also writes the id: a block without data sets the last id and
// is not an event.
func (t *eventWriter) beat() error {
	var b bytes.Buffer
	b.WriteString(": \n")
	if t.resumable && t.cursor != t.lastID {
		fmt.Fprintf(&b, "id: %s\n\n", t.cursor)
		t.lastID = t.cursor
	}
	_, err := t.w.Write(b.Bytes())
	return err
}
