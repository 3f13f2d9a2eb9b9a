package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"disc/agent/api"
	"disc/discovery/devetcd/etcdtest"
)

// event is a server-sent event.
type event struct {
	id, kind string
	data     api.Event
}

// events opens /v1/watch of an agent. It resumes after the event lastID; "" starts anew.
func (p program) events(t *testing.T, service, lastID string) (next func() event, stop func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.env["DISC_AGENT"]+"/v1/watch?service="+service, nil)
	if err != nil {
		t.Fatal(err)
	}
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || got != "text/event-stream" {
		t.Fatalf("watch: %s, %s", resp.Status, got)
	}
	lines := bufio.NewScanner(resp.Body)
	last := lastID
	next = func() event {
		t.Helper()
		e := event{}
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch {
			case name == "id":
				last = value
			case name == "event":
				e.kind = value
			case name == "data":
				if err := json.Unmarshal([]byte(value), &e.data); err != nil {
					t.Fatalf("%s: %v", value, err)
				}
			case lines.Text() == "" && e.kind != "":
				e.id = last
				return e
			}
		}
		t.Fatalf("the stream ended: %v", lines.Err())
		return e
	}
	return next, func() { cancel(); resp.Body.Close() }
}

// expectEvent returns the next event, which must have the kind and be about the instance.
func expectEvent(t *testing.T, next func() event, kind, id string) event {
	t.Helper()
	e := next()
	if e.kind != kind || e.data.ID != id {
		t.Fatalf("event %s of %q, want %s of %q: %+v", e.kind, e.data.ID, kind, id, e)
	}
	return e
}

// TestWatchResumes closes a stream of events and resumes it. No event is missed, none comes
// twice, and none is about another service.
func TestWatchResumes(t *testing.T) {
	p := newProgram(t, etcdtest.Start(t).Endpoint()).ready(t)
	p.agent(t)
	p.expect(t, 0, "made", "set", "web/web-1", "10.0.0.1:80")
	p.expect(t, 0, "10.0.0.1:80", "lookup", "web", "-o", "addr")

	next, stop := p.events(t, "web", "")
	if reset := expectEvent(t, next, "reset", ""); len(reset.data.Instances) != 1 || reset.data.Instances[0].ID != "web-1" {
		t.Fatalf("reset: %+v", reset.data)
	}
	p.expect(t, 0, "made", "set", "db/one", "10.0.0.9:1")
	p.expect(t, 0, "made", "set", "web/web-2", "10.0.0.2:80")
	seen := expectEvent(t, next, "put", "web-2")
	stop()

	p.expect(t, 0, "made", "set", "web/web-3", "10.0.0.3:80")
	p.expect(t, 0, "removed", "unset", "web/web-2")
	p.expect(t, 0, "web-3", "lookup", "web", "-o", "name")

	next, stop = p.events(t, "web", seen.id)
	put := expectEvent(t, next, "put", "web-3")
	if gone := expectEvent(t, next, "delete", "web-2"); gone.data.Reason != "removed" || put.id == seen.id || gone.id == put.id {
		t.Errorf("after %s the events are %+v and %+v", seen.id, put, gone)
	}
	stop()

	// an id of another epoch starts anew
	next, stop = p.events(t, "web", "1-another")
	defer stop()
	if reset := expectEvent(t, next, "reset", ""); len(reset.data.Instances) != 2 {
		t.Errorf("reset: %+v", reset.data)
	}
}
