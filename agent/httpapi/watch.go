package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/view"
)

func (a *API) watchRoutes() []route {
	return []route{{method: "GET", path: "/v1/watch", params: []string{"service"}, handle: a.watch}}
}

// watch answers with server-sent events (the WHATWG's HTML standard, section 9.2).
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
	view, err := a.viewOf(r, partOf(service))
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", api.TypeEvents)
	h.Set("Cache-Control", "no-store")
	h.Set(api.HeaderRevision, strconv.FormatInt(view.Snapshot.Revision(), 10))
	if r.Method == http.MethodHead {
		return nil
	}
	defer a.metrics.streaming("watch")()
	defer a.backends.Catalog.Retain(partOf(service))()
	t := watcher{catalog: a.backends.Catalog, service: service, w: w, extend: a.extend}
	t.resume(r.Header.Get("Last-Event-ID"), view)
	wake := func() (<-chan struct{}, error) {
		changed := a.backends.Catalog.Changed(service)
		return changed, t.advance()
	}
	return a.stream(w, r, wake, t.beat)
}

// watcher writes one stream of events. It buffers nothing: when its reader is slow,
// the catalog's log moves on, and in the end the reader starts over.
type watcher struct {
	catalog Catalog
	service string // empty: all
	w       http.ResponseWriter
	extend  func(http.ResponseWriter) // gives the reader its time for what comes next

	at    discovery.Cursor // how far it has read
	known bool             // the reader knows what was there
	told  discovery.Cursor // the last one that the reader was told
}

// resume takes up a reader that read up to an event's id, if that is of this epoch
// and not ahead of this agent's view.
func (t *watcher) resume(lastEventID string, v view.View) {
	at, ok := discovery.ParseCursor(lastEventID)
	t.known = ok && at.Epoch == v.Snapshot.Epoch() && at.Compare(v.Snapshot.Cursor()) <= 0
	t.at, t.told = at, at
}

// advance writes what happened since the cursor, or all anew when that is not known.
func (t *watcher) advance() error {
	current, err := t.catalog.View()
	if err != nil {
		return err
	}
	s := current.Snapshot
	var events []view.Event
	if t.known = t.known && t.at.Epoch == s.Epoch(); t.known {
		events, t.known = t.catalog.Events(t.service, t.at)
	}
	if !t.known {
		return t.reset(s)
	}
	t.at = later(t.at, s.Cursor())
	if len(events) > 0 {
		t.at = later(t.at, events[len(events)-1].Cursor(t.at.Epoch))
	}
	return t.changes(events)
}

func later(p, q discovery.Cursor) discovery.Cursor {
	if p.Compare(q) < 0 {
		return q
	}
	return p
}

func (t *watcher) reset(s *view.Snapshot) error {
	e := api.Event{Revision: s.Revision(), Service: t.service, Instances: []*view.Entry{}}
	if t.service == "" {
		for service := range s.Services() {
			e.Instances = append(e.Instances, service.Entries()...)
		}
	} else if service, ok := s.Service(t.service); ok {
		e.Instances = append(e.Instances, service.Entries()...)
	}
	t.known, t.at = true, s.Cursor()
	return t.write(api.EventReset, e, t.at)
}

// changes writes events. Where several are of one position, only the last has an id:
// a reader that is cut off between them goes on before the first.
func (t *watcher) changes(events []view.Event) error {
	mine := make([]view.Event, 0, len(events))
	for _, e := range events {
		if t.service == "" || discovery.FoldName(e.Service) == discovery.FoldName(t.service) {
			mine = append(mine, e)
		}
	}
	for n, e := range mine {
		id := e.Cursor(t.at.Epoch)
		if n+1 < len(mine) && mine[n+1].Cursor(t.at.Epoch) == id {
			id = t.told
		}
		out := api.Event{Revision: e.Revision, Service: e.Service, ID: e.ID, Instance: e.Entry, Reason: e.Reason}
		if err := t.write(e.Type, out, id); err != nil {
			return err
		}
	}
	return nil
}

// write writes one event, with its id if that is another than the last.
func (t *watcher) write(kind view.EventType, e api.Event, id discovery.Cursor) error {
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode the %s event of revision %d: %w", kind, e.Revision, err)
	}
	var b bytes.Buffer
	if id != t.told {
		fmt.Fprintf(&b, "id: %s\n", id)
		t.told = id
	}
	fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", kind, data)
	t.extend(t.w)
	_, err = t.w.Write(b.Bytes())
	return err
}

// beat writes a comment that keeps the connection alive, and tells how far the
// reader has come while nothing happened to what it watches: a block without data
// sets the last id and is no event.
func (t *watcher) beat() error {
	var b bytes.Buffer
	b.WriteString(": \n")
	if t.known && t.at != t.told {
		fmt.Fprintf(&b, "id: %s\n\n", t.at)
		t.told = t.at
	}
	_, err := t.w.Write(b.Bytes())
	return err
}
