package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"disc/discovery"
)

func TestReadEvents(t *testing.T) {
	stream := ": hello\n\nid: 1-e\nevent: reset\ndata: {\"revision\":1,\n" + "data:\"instances\":[]}\n\n" +
		"event: put\ndata: {\"revision\":2,\"id\":\"a\"}\n\n" + // more of the revision follows
		"id: 2-e\nevent: put\ndata: {\"revision\":2,\"id\":\"b\"}\nretry: 5\n\n" +
		"id: 7-e\n\n" + // a cursor without an event
		"id: 9-e\nevent: put\ndata: {}" // cut off
	var cursor string
	var got []string
	err := readEvents(strings.NewReader(stream), func() {}, &cursor, eventAt, func(e Event) bool {
		got = append(got, fmt.Sprintf("%s %s %d %s", e.Cursor, e.Type, e.Revision, e.ID))
		return true
	})
	if want := "[1-e reset 1  1-e put 2 a 2-e put 2 b]"; err != nil || fmt.Sprint(got) != want || cursor != "7-e" {
		t.Errorf("got %v, cursor %s, %v", got, cursor, err)
	}
	if err := readEvents(strings.NewReader("data: x\n\n"), func() {}, &cursor, eventAt, nil); err == nil {
		t.Error("data that is no JSON was read")
	}
}

func TestWatchComesBackWithItsCursor(t *testing.T) {
	var cursors []string
	c := answering(t, func(w http.ResponseWriter, r *http.Request) {
		n := len(cursors) + 1
		cursors = append(cursors, r.Header.Get("Last-Event-ID"))
		if n == 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", TypeEvents)
		_, _ = fmt.Fprintf(w, "id: %d-e\nevent: put\ndata: {\"revision\":%d}\n\n", n, n)
	})
	var got []string
	for e, err := range c.Watch(t.Context(), "web", "0-e") {
		switch {
		case err == nil:
			got = append(got, e.Cursor)
		case !errors.Is(err, discovery.ErrUnavailable):
			t.Fatal(err)
		}
		if len(got) == 3 {
			break
		}
	}
	if fmt.Sprint(cursors) != "[0-e 1-e 1-e 3-e]" || fmt.Sprint(got) != "[1-e 3-e 4-e]" {
		t.Errorf("asked after %v, got %v", cursors, got)
	}
}

func TestWatchEndsWithWhatWouldComeAgain(t *testing.T) {
	c := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"detail":"no"}`)
	})
	var errs []error
	for _, err := range c.Watch(t.Context(), "", "") {
		errs = append(errs, err)
	}
	if len(errs) != 1 || !errors.Is(errs[0], discovery.ErrInvalid) {
		t.Errorf("errors %v", errs)
	}
}

// A server that is no agent does not become one.
func TestWatchEndsWithAnotherServer(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"not found": http.NotFound,
		"a page":    func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
		"no JSON": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", TypeEvents)
			_, _ = io.WriteString(w, "event: put\ndata: <html>\n\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			var errs []error
			for _, err := range answering(t, answer).Watch(t.Context(), "", "") {
				errs = append(errs, err)
				if len(errs) > 1 {
					break
				}
			}
			if len(errs) != 1 || !NoAgent(errs[0]) || !errors.Is(errs[0], discovery.ErrUnavailable) {
				t.Errorf("errors %v", errs)
			}
		})
	}
}

func FuzzReadEvents(f *testing.F) {
	f.Add("id: 1-e\nevent: put\ndata: {}\n\n")
	f.Add("data: {\ndata: }\n\n:\r\nid\n\n")
	f.Fuzz(func(t *testing.T, stream string) {
		cursor := ""
		_ = readEvents(strings.NewReader(stream), func() {}, &cursor, eventAt, func(Event) bool { return true })
		if strings.Contains(cursor, "\n") {
			t.Errorf("cursor %q", cursor)
		}
	})
}
