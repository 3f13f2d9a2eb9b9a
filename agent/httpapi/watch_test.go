package httpapi

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/view"
)

// watching reads the blocks of one stream from the wire.
type watching struct {
	t     *testing.T
	lines *bufio.Scanner
}

func (s *server) watching(query, lastEventID string) *watching {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), "GET", s.BaseURL+"/v1/watch"+query, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if lastEventID != "" {
		req.Header.Set("Last-Event-ID", lastEventID)
	}
	resp, err := s.HTTP.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { resp.Body.Close() })
	return &watching{s.t.(*testing.T), bufio.NewScanner(resp.Body)}
}

// want reads the next block and compares its lines; of the data it compares the start.
func (w *watching) want(id, event, data string) {
	w.t.Helper()
	got := map[string]string{}
	for w.lines.Scan() && w.lines.Text() != "" {
		field, value, _ := strings.Cut(w.lines.Text(), ": ")
		got[field] = value
	}
	if w.lines.Err() != nil {
		w.t.Fatal(w.lines.Err())
	}
	if got["id"] != id || got["event"] != event || !strings.HasPrefix(got["data"], data) {
		w.t.Errorf("got %q, want id %q, event %q and data %s", got, id, event, data)
	}
	schema := map[string]string{"put": "PutEvent", "delete": "DeleteEvent", "reset": "ResetEvent"}[event]
	if schema != "" {
		if err := description(w.t).Value(schema, []byte(got["data"])); err != nil {
			w.t.Error(err)
		}
	}
}

func TestWatchBeginsWithAllAndTellsChanges(t *testing.T) {
	f := withWebs(1)
	s := serve(t, f.api(t, Options{}))
	w := s.watching("?service=WEB", "")
	w.want("1-e1", "reset", `{"revision":1,"service":"WEB","instances":[{"service":"web","id":"web-1",`)
	f.put(web(1, func(i *discovery.Instance) { i.Service = "other" }))
	f.put(web(2))
	w.want("3-e1", "put", `{"revision":3,"service":"web","id":"web-2","instance":{"service":"web","id":"web-2",`)
	f.put(web(2, func(i *discovery.Instance) { i.Leaving = true }))
	w.want("4-e1", "delete", `{"revision":4,"service":"web","id":"web-2","reason":"left"}`)
	f.delete("web", "web-1")
	w.want("5-e1", "delete", `{"revision":5,"service":"web","id":"web-1","reason":"expired"}`)
	s.watching("?service=nosuch", "").want("5-e1", "reset", `{"revision":5,"service":"nosuch","instances":[]}`)
	s.watching("", "").want("5-e1", "reset", `{"revision":5,"instances":[{"service":"other",`)
}

func TestWatchGoesOnAfterAnEvent(t *testing.T) {
	f := withWebs(3)
	s := serve(t, f.api(t, Options{}))
	w := s.watching("", "1-e1")
	w.want("2-e1", "put", `{"revision":2,`)
	w.want("3-e1", "put", `{"revision":3,`)
	w = s.watching("", "3-e1")
	f.put(web(4))
	w.want("4-e1", "put", `{"revision":4,`)
}

func TestWatchStartsOverWhenItCannotGoOn(t *testing.T) {
	f := withWebs(3)
	f.logFrom = 2
	s := serve(t, f.api(t, Options{}))
	for _, id := range []string{"1-e1", "3-e0", "4-e1", "-1-e1", "x-e1", "3", "3-", "e1"} {
		s.watching("?service=web", id).want(reset("3-e1", id), "reset", `{"revision":3,"service":"web","instances":[{`)
	}
}

// reset returns the id line of a reset for a reader that has an id; empty: the id is the same.
func reset(id, known string) string {
	if id == known {
		return ""
	}
	return id
}

func TestWatchStartsOverWhenTheEpochChanges(t *testing.T) {
	f := withWebs(3)
	s := serve(t, f.api(t, Options{}))
	w := s.watching("?service=web", "")
	w.want("3-e1", "reset", `{"revision":3,`)
	f.update(func() { f.view.Snapshot = view.EmptySnapshot().WithEpoch("e2") })
	w.want("0-e2", "reset", `{"revision":0,"service":"web","instances":[]}`)
	f.put(web(1))
	w.want("1-e2", "put", `{"revision":1,`)
}

func TestWatchStartsASlowReaderOver(t *testing.T) {
	f := withWebs(1)
	s := serve(t, f.api(t, Options{}))
	w := s.watching("?service=web", "")
	w.want("1-e1", "reset", `{"revision":1,`)
	f.update(func() { // many changes at once, and the log loses the oldest
		view := f.view.Snapshot
		f.view.Snapshot, _, _ = view.Apply(90, nil)
		f.logFrom = 80
	})
	w.want("90-e1", "reset", `{"revision":90,`)
}

// A reader that is cut off between two events of one revision resumes before both.
func TestOnlyTheLastEventOfARevisionHasAnID(t *testing.T) {
	f := withWebs(1)
	s := serve(t, f.api(t, Options{}))
	w := s.watching("?service=web", "")
	w.want("1-e1", "reset", `{`)
	f.put(web(2), web(3), web(1, func(i *discovery.Instance) { i.Service = "other" }))
	w.want("", "put", `{"revision":2,"service":"web","id":"web-2"`)
	w.want("2-e1", "put", `{"revision":2,"service":"web","id":"web-3"`)
}

func TestWatchTellsHowFarItIsWhileNothingHappens(t *testing.T) {
	f := withWebs(1)
	a := f.api(t, Options{})
	a.timeouts.keepalive = 1e6
	s := serve(t, a)
	w := s.watching("?service=web", "")
	w.want("1-e1", "reset", `{`)
	f.put(web(1, func(i *discovery.Instance) { i.Service = "other" }))
	w.want("2-e1", "", "")
	f.put(web(2))
	w.want("3-e1", "put", `{"revision":3`)
}

func TestWatchRefuses(t *testing.T) {
	s := serve(t, newFleet().api(t, Options{}))
	s.want("GET /v1/watch?service=", "", 400, "service name is empty")
	s.want("GET /v1/watch?service=a%2Fb", "", 400, "service name")
	s.want("GET /v1/watch?servce=web", "", 400, "unknown query parameter servce")
}

// cutter is a listener whose connections can all be cut.
type cutter struct {
	net.Listener
	lock  sync.Mutex
	conns []net.Conn
}

func (c *cutter) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	c.lock.Lock()
	defer c.lock.Unlock()
	c.conns = append(c.conns, conn)
	return conn, err
}

func (c *cutter) cut() {
	c.lock.Lock()
	defer c.lock.Unlock()
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

// The client reconnects with the id of the last event, so that it gets each change once
// although its connections break.
func TestClientWatchGoesOnOverBrokenConnections(t *testing.T) {
	f := withWebs(1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{Listener: l}
	s := serveOn(t, f.api(t, Options{}), c, "http://"+l.Addr().String())
	next, broken := 1, 0
	for e, err := range s.Watch(t.Context(), "web", "") {
		switch {
		case errors.Is(err, discovery.ErrUnavailable):
			broken++
			continue
		case err != nil:
			t.Fatal(err)
		case e.Type == api.EventReset && next == 1 && len(e.Instances) == 1:
		case e.Type == view.EventPut && e.Revision == int64(next) && e.Instance.ID == fmt.Sprintf("web-%d", next):
		default:
			t.Errorf("event %+v where %d was next", e, next)
		}
		if next++; next == 6 {
			break
		}
		c.cut()
		f.put(web(next))
	}
	if broken != 4 {
		t.Errorf("the connection broke %d times, want 4", broken)
	}
}
