package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"disc/agent/api"
	"disc/discovery"
)

func (a *API) watchRoutes() []route {
	return []route{{method: "GET", path: "/v1/watch", params: []string{"service"}, handle: a.watch}}
}

// watch answers with server-sent events (the WHATWG's HTML standard, section 9.2).
func (a *API) watch(w http.ResponseWriter, r request) error {
	service := r.query.Get("service")
	if r.query.Has("service") {
		if err := discovery.ValidateService(service); err != nil {
			return err
		}
	}
	view, err := a.catalog.View()
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
	t := watcher{catalog: a.catalog, service: service, w: w, extend: a.extend}
	t.resume(r.Header.Get("Last-Event-ID"), view)
	wake := func() (<-chan struct{}, error) {
		changed := a.catalog.Changed(service)
		return changed, t.advance()
	}
	return a.stream(w, r, wake, t.beat)
}

// cursor is how far a watcher has read: all events up to a revision of an epoch.
type cursor struct {
	revision int64
	epoch    string
}

func parseCursor(s string) (cursor, bool) {
	number, epoch, ok := strings.Cut(s, "-")
	revision, err := strconv.ParseInt(number, 10, 64)
	return cursor{revision, epoch}, ok && err == nil && revision >= 0
}

func (c cursor) String() string { return strconv.FormatInt(c.revision, 10) + "-" + c.epoch }

// watcher writes one stream of events. It buffers nothing: when its reader is slow,
// the catalog's log moves on, and in the end the reader starts over.
type watcher struct {
	catalog Catalog
	service string // empty: all
	w       http.ResponseWriter
	extend  func(http.ResponseWriter) // gives the reader its time for what comes next

	at    cursor
	known bool   // the reader knows what was at the cursor
	told  cursor // the last cursor that the reader was told
}

// resume takes up a reader that read up to an event's id, if that is of this epoch
// and not ahead of this agent's view.
func (t *watcher) resume(lastEventID string, v discovery.View) {
	at, ok := parseCursor(lastEventID)
	t.known = ok && at.epoch == v.Snapshot.Epoch() && at.revision <= v.Snapshot.Revision()
	t.at, t.told = at, at
}

// advance writes what happened since the cursor, or all anew when that is not known.
func (t *watcher) advance() error {
	view, err := t.catalog.View()
	if err != nil {
		return err
	}
	s := view.Snapshot
	var events []discovery.Event
	if t.known = t.known && t.at.epoch == s.Epoch(); t.known {
		events, t.known = t.catalog.Events(t.at.epoch, t.at.revision)
	}
	if !t.known {
		return t.reset(s)
	}
	t.at.revision = max(t.at.revision, s.Revision())
	if len(events) > 0 {
		t.at.revision = max(t.at.revision, events[len(events)-1].Revision)
	}
	return t.changes(events)
}

func (t *watcher) reset(s *discovery.Snapshot) error {
	e := api.Event{Revision: s.Revision(), Service: t.service, Instances: []*discovery.Entry{}}
	if t.service == "" {
		for service := range s.Services() {
			e.Instances = append(e.Instances, service.Entries()...)
		}
	} else if service, ok := s.Service(t.service); ok {
		e.Instances = append(e.Instances, service.Entries()...)
	}
	t.known, t.at = true, cursor{s.Revision(), s.Epoch()}
	return t.write(api.EventReset, e, t.at)
}

// changes writes events. Where several are of one revision, only the last has an id:
// a reader that is cut off between them goes on before the first.
func (t *watcher) changes(events []discovery.Event) error {
	mine := make([]discovery.Event, 0, len(events))
	for _, e := range events {
		if t.service == "" || discovery.FoldName(e.Service) == discovery.FoldName(t.service) {
			mine = append(mine, e)
		}
	}
	for n, e := range mine {
		id := cursor{e.Revision, t.at.epoch}
		if n+1 < len(mine) && mine[n+1].Revision == e.Revision {
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
func (t *watcher) write(kind discovery.EventType, e api.Event, id cursor) error {
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
