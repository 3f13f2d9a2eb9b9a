package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"

	"disc/agent/api"
	"disc/discovery"
)

// kvWatch answers with the changes of a key or below a prefix as server-sent events: a
// reset with all items, then each write and deletion.
func (a *API) kvWatch(w http.ResponseWriter, r request, what string) error {
	end, err := a.admit(r, a.reads)
	if err != nil {
		return err
	}
	defer end()
	t := kvEventWriter{api: a, kv: a.backends.KV, what: what, w: w, r: r}
	t.cursor, t.resumable = discovery.ParseCursor(r.Header.Get("Last-Event-ID"))
	_, view, err := t.kv.Snapshot(r.Context(), what) // which also makes the agent copy the range
	if err != nil {
		return err
	}
	defer t.kv.Watch(what)()
	header := kvHeaderOf(view)
	header.set(w.Header())
	w.Header().Set("Content-Type", api.TypeEvents)
	w.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		return nil
	}
	defer a.metrics.streaming("watch")()
	wake := func() (<-chan struct{}, error) {
		changed := a.backends.KV.Changed()
		a.extend(w)
		return changed, t.advance()
	}
	return a.stream(w, r, wake, func() error {
		if _, err := w.Write([]byte(": \n")); err != nil {
			return err
		}
		return t.advance() // so that the agent keeps the copy while nothing changes
	})
}

// kvEventWriter writes one stream of events.
type kvEventWriter struct {
	api  *API
	kv   KV
	what string // a key, or a prefix
	w    http.ResponseWriter
	r    request

	cursor    discovery.Cursor // of the last event that was written
	resumable bool             // the reader has the state at cursor
}

// advance writes the events after the cursor, or a reset when those are not known.
func (t *kvEventWriter) advance() error {
	if t.resumable {
		events, upTo, ok := t.kv.Events(t.what, t.cursor)
		if ok {
			t.cursor = upTo
			return t.changes(events)
		}
	}
	return t.reset()
}

func (t *kvEventWriter) reset() error {
	items, view, err := t.kv.Snapshot(t.r.Context(), t.what)
	if err != nil {
		return err
	}
	e := api.KVEvent{Type: api.EventReset, Revision: view.Revision, Items: collect(items)}
	t.resumable, t.cursor = true, discovery.Cursor{Epoch: view.Epoch, Revision: view.Revision}
	return t.write(e, t.cursor)
}

// changes writes events. Of the events of one revision only the last has an id: a reader
// that is cut off between them resumes before the first.
func (t *kvEventWriter) changes(events []api.KVEvent) error {
	for n, e := range events {
		id := discovery.Cursor{}
		if n+1 == len(events) || events[n+1].Revision != e.Revision {
			id = discovery.Cursor{Epoch: t.cursor.Epoch, Revision: e.Revision}
		}
		if err := t.write(e, id); err != nil {
			return err
		}
	}
	return nil
}

func (t *kvEventWriter) write(e api.KVEvent, id discovery.Cursor) error {
	return t.api.writeEvent(t.w, t.r, func() ([]byte, error) {
		data, err := json.Marshal(e)
		if err != nil {
			return nil, fmt.Errorf("encode the %s event of revision %d: %w", e.Type, e.Revision, err)
		}
		var b bytes.Buffer
		if id.Epoch != "" {
			fmt.Fprintf(&b, "id: %s\n", id)
		}
		fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", e.Type, data)
		return b.Bytes(), nil
	})
}
