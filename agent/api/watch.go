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

// maxEvent is the greatest length of one event, in bytes: a reset carries all
// instances of a namespace.
const maxEvent = 256 << 20

// Watch yields the changes of a service, or with "" of all. The first event is a
// reset that carries all instances, unless cursor is the cursor of an earlier event
// from which the agent can go on.
//
// Watch does not end with a lost connection: it yields the error with an empty
// event, waits (full jitter, 100 ms to 5 s) and goes on from the last event, if the
// consumer does. It ends with ctx, or after an error that would come again.
func (c *Client) Watch(ctx context.Context, service, cursor string) iter.Seq2[Event, error] {
	q := url.Values{}
	if service != "" {
		q.Set("service", service)
	}
	return watch(ctx, c, request{path: "/v1/watch", query: q}, cursor, eventAt)
}

// KVWatch yields the changes of a key or, with "" or a prefix, which ends in "/", of all
// below it. The first event is a reset with what is there. It goes on as [Client.Watch]
// does.
func (c *Client) KVWatch(ctx context.Context, what, cursor string) iter.Seq2[KVEvent, error] {
	return watch(ctx, c, request{path: kvPath(what)}, cursor, kvEventAt)
}

func eventAt(kind view.EventType, cursor string) Event { return Event{Type: kind, Cursor: cursor} }

func kvEventAt(kind view.EventType, cursor string) KVEvent {
	return KVEvent{Type: kind, Cursor: cursor}
}

// watch yields the events of a request, over one connection after the other. An event's
// data is read into what begin returns for its type and cursor.
func watch[E any](ctx context.Context, c *Client, r request, cursor string, begin func(view.EventType, string) E) iter.Seq2[E, error] {
	return func(yield func(E, error) bool) {
		var backoff retry.Backoff
		for {
			err := watchOnce(ctx, c, r, &cursor, begin, func(e E) bool {
				backoff.Reset()
				return yield(e, nil)
			})
			if errors.Is(err, errStopped) || ctx.Err() != nil {
				return
			}
			var none E
			if !yield(none, err) || !errors.Is(err, discovery.ErrUnavailable) {
				return
			}
			backoff.Failed()
			if backoff.Wait(ctx) != nil {
				return
			}
		}
	}
}

// errStopped: the consumer of a watch wants no more.
var errStopped = errors.New("stopped")

// watchOnce yields the events of one connection and keeps the cursor.
func watchOnce[E any](ctx context.Context, c *Client, r request, cursor *string, begin func(view.EventType, string) E, yield func(E) bool) error {
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
	silence := time.AfterFunc(3*Keepalive, func() { cancel(errSilent) })
	defer silence.Stop()
	alive := func() { silence.Reset(3 * Keepalive) }
	err = readEvents(resp.Body, alive, cursor, begin, func(e E) bool {
		silence.Stop() // a consumer that takes its time is not the agent's silence
		defer alive()
		return yield(e)
	})
	switch {
	case errors.Is(err, errStopped):
		return err
	case errors.Is(context.Cause(ctx), errSilent):
		err = errSilent
	case err == nil:
		err = errors.New("the agent closed the connection")
	}
	return &unreachableError{c.address(), err}
}

// readEvents reads a stream of server-sent events (the WHATWG's HTML standard,
// section 9.2). alive is called for each line.
func readEvents[E any](r io.Reader, alive func(), cursor *string, begin func(view.EventType, string) E, yield func(E) bool) error {
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
				e := begin(view.EventType(name), id)
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
