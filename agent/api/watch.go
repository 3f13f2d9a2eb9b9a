package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"disc/discovery"
	"disc/discovery/retry"
	"disc/discovery/view"
)

// maxEvent is the most bytes of one event: a reset has all instances of a namespace.
const maxEvent = 256 << 20

// Watch yields the changes of a service, or with "" of all services. The first event is an
// [EventReset] with all instances, unless cursor is that of an earlier event after which the
// agent can resume; "" is none.
//
// After a lost connection, Watch yields the error (an ErrUnavailable) with an empty event. If
// the consumer continues, it waits (full jitter, 100 ms to 5 s) and resumes after the last
// event. It ends with ctx, after any other error, and if what answers is no agent.
func (c *Client) Watch(ctx context.Context, service, cursor string) iter.Seq2[Event, error] {
	q := url.Values{}
	if service != "" {
		q.Set("service", service)
	}
	return watch(ctx, c, request{path: "/v1/watch", query: q}, cursor, eventAt)
}

// KVWatch yields the changes of a key, of all keys below a prefix that ends in "/", or with "" of
// all. The first event is an [EventReset] with the present items. Errors and cursor are as in
// [Client.Watch].
func (c *Client) KVWatch(ctx context.Context, what, cursor string) iter.Seq2[KVEvent, error] {
	return watch(ctx, c, request{path: kvPath(what)}, cursor, kvEventAt)
}

func eventAt(kind view.EventType, cursor string) Event { return Event{Type: kind, Cursor: cursor} }

func kvEventAt(kind view.EventType, cursor string) KVEvent {
	return KVEvent{Type: kind, Cursor: cursor}
}

// watch yields the events of a request, and reconnects after a lost connection. newEvent returns
// an event of a type and cursor, to decode the data into.
func watch[E any](ctx context.Context, c *Client, r request, cursor string, newEvent func(view.EventType, string) E) iter.Seq2[E, error] {
	return func(yield func(E, error) bool) {
		var backoff retry.Backoff
		for {
			err := watchOnce(ctx, c, r, &cursor, newEvent, func(e E) bool {
				backoff.Reset()
				return yield(e, nil)
			})
			if errors.Is(err, errStopped) || ctx.Err() != nil {
				return
			}
			var none E
			if !yield(none, err) || !errors.Is(err, discovery.ErrUnavailable) || NoAgent(err) {
				return
			}
			backoff.Failed()
			if backoff.Wait(ctx) != nil {
				return
			}
		}
	}
}

// errStopped means that the consumer has stopped a watch.
var errStopped = errors.New("stopped")

// watchOnce yields the events of one connection and advances the cursor.
func watchOnce[E any](ctx context.Context, c *Client, r request, cursor *string, newEvent func(view.EventType, string) E, yield func(E) bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.method, r.header, r.accept = "GET", http.Header{}, TypeEvents
	if *cursor != "" {
		r.header.Set("Last-Event-ID", *cursor)
	}
	resp, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), TypeEvents) {
		return c.notAnAgent(fmt.Sprintf("the answer to GET %s is no stream of events", r.path))
	}
	silence := time.AfterFunc(3*StreamKeepalive, func() { cancel(errSilent) })
	defer silence.Stop()
	alive := func() { silence.Reset(3 * StreamKeepalive) }
	err = readEvents(resp.Body, alive, cursor, newEvent, func(e E) bool {
		silence.Stop() // the time that the consumer takes does not count
		defer alive()
		return yield(e)
	})
	switch {
	case errors.Is(err, errStopped):
		return err
	case errors.Is(context.Cause(ctx), errSilent):
		return c.lost(errSilent)
	case err == nil:
		err = io.ErrUnexpectedEOF // the stream has no end of its own
	}
	return c.unreadable(ctx, "an event", err)
}

// readEvents reads a stream of server-sent events (WHATWG HTML, section 9.2). It calls alive for
// each line.
func readEvents[E any](r io.Reader, alive func(), cursor *string, newEvent func(view.EventType, string) E, yield func(E) bool) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxEvent)
	id, name, data := *cursor, "", []byte(nil)
	for lines.Scan() {
		alive()
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case lines.Text() == "":
			*cursor = id
			if data != nil {
				e := newEvent(view.EventType(name), id)
				if err := json.Unmarshal(data, &e); err != nil {
					return fmt.Errorf("read a %s event: %w", name, err)
				}
				if !yield(e) {
					return errStopped
				}
			}
			name, data = "", nil
		case field == "id":
			id = value
		case field == "event":
			name = value
		case field == "data":
			data = append(data, value...)
		}
	}
	return lines.Err()
}
