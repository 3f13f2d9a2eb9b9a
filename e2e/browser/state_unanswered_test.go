package browser_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// line is a line to an agent that may lose what the agent answers to a change of a key, and holds
// what hold says back until the test lets it pass.
type line struct {
	url   string
	loses atomic.Bool
	hold  atomic.Pointer[func(*http.Request) bool]
	held  chan chan struct{} // each that is held: closed, it passes
}

func newLine(t *testing.T, a *agent) *line {
	t.Helper()
	l := &line{held: make(chan chan struct{}, 100)}
	to := &url.URL{Scheme: "http", Host: a.address}
	proxy := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Origin") // the agent takes the request for one of its own address
		if hold := l.hold.Load(); hold != nil && (*hold)(r) {
			pass := make(chan struct{})
			l.held <- pass
			select {
			case <-pass:
			case <-t.Context().Done():
			}
		}
		if l.loses.Load() && isChange(r) {
			proxy.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	l.url = s.URL + "/"
	return l
}

// waitsOn has the page wait for the answers that a line holds for as long as it holds them.
func (b *tab) waitsOn() {
	b.t.Helper()
	b.before("AbortSignal.timeout = () => new AbortController().signal")
}

// isChange reports whether a request changes a key.
func isChange(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/v1/kv/") && r.Method != http.MethodGet
}

// Of a change whose answer is lost the page says once that it may have been done. Where it is tried
// again, the reader's own change is not taken for that of somebody else.
func TestStateUnanswered(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.write("greeting", "hello")
	l := newLine(t, a)
	b := openTab(t)
	b.expect(`net::ERR_|status of 412`)
	b.open(l.url + "?view=state&key=greeting")
	b.sees("main pre", "hello")
	b.click("button", "Edit")
	b.replace("dialog textarea", "bye")
	l.loses.Store(true)
	b.click("dialog button", "Change greeting")
	b.sees("dialog [role=alert]", "does not answer. Whether it did what it was asked is not known.")
	b.seesNot("dialog", "may have been made")
	b.keeps(a, "greeting", "bye")

	b.replace("dialog textarea", "good bye")
	l.loses.Store(false)
	b.click("dialog button", "Change greeting")
	b.sees("dialog [role=alert]", "The key has changed, by what was not answered or by somebody else")
	b.keeps(a, "greeting", "bye")
	b.replace("dialog textarea", "hello")
	b.click("dialog button", "Compare")
	b.sees("dialog", "- bye + hello")
	l.loses.Store(true)
	b.click("dialog button", "Change greeting")
	b.sees("dialog [role=alert]", "is not known")
	b.keeps(a, "greeting", "hello")
	l.loses.Store(false)
	b.click("dialog button", "Change greeting") // it is done already
	b.sees(".notices", "greeting: changed at revision")
	b.seesNot("body", "somebody else")

	l.loses.Store(true)
	b.click("button", "Undo")
	b.sees(".notices", "is not known")
	b.seesNot(".notices", "was not undone")
	b.keeps(a, "greeting", "bye")
}

// What a reader types while an earlier change is not answered is kept, and its answer is that of no
// other change.
func TestStateTypesOn(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.write("greeting", "hello")
	l := newLine(t, a)
	b := openTab(t)
	b.expect(`status of 412`)
	b.waitsOn()
	b.open(l.url + "?view=state&key=greeting")
	b.sees("main pre", "hello")
	hold := isChange
	l.hold.Store(&hold)
	for _, faster := range []bool{false, true} {
		b.click("button", "Edit")
		b.replace("dialog textarea", "bye")
		b.click("dialog button", "Change greeting")
		pass := <-l.held
		evaluate[chromedp.Void](b, "document.querySelector('dialog textarea').focus()")
		b.keys(kb.End, "!")
		if typed := evaluate[string](b, "document.querySelector('dialog textarea').value"); typed != "bye" {
			t.Errorf("what is sent is changed into %q, which is lost", typed)
		}
		b.click("dialog button", "Cancel")
		b.click("button", "Edit")
		b.replace("dialog textarea", "typed since")
		says := "greeting: changed at revision"
		if faster {
			a.write("greeting", "theirs")
			says = "greeting: nothing was written: somebody else has changed the key."
		}
		close(pass)
		b.sees(".notices", says)
		if typed := evaluate[string](b, "document.querySelector('dialog textarea')?.value ?? ''"); typed != "typed since" {
			t.Errorf("what was typed since is %q", typed)
		}
		b.seesNot("dialog", "Somebody else")
		b.click("dialog button", "Cancel")
		a.write("greeting", "hello again")
		b.sees("main pre", "hello again")
	}
	l.hold.Store(nil)
	retrytest.Eventually(t, "nothing is held", func() bool { return len(l.held) == 0 })
}

// An undo that is answered late leaves the way back from a later change.
func TestStateUndoIsLate(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.write("greeting", "hello")
	l := newLine(t, a)
	b := openTab(t)
	b.expect(`status of 412`)
	b.waitsOn()
	b.open(l.url + "?view=state&key=greeting")
	change := func(from, to string) {
		t.Helper()
		b.sees("main pre", from)
		b.click("button", "Edit")
		b.replace("dialog textarea", to)
		b.click("dialog button", "Change greeting")
		b.sees("main pre", to)
		b.sees(".notices", "changed at revision")
	}
	change("hello", "bye")
	hold := isChange
	l.hold.Store(&hold)
	b.click("button", "Undo")
	pass := <-l.held
	l.hold.Store(nil)
	change("bye", "later")
	close(pass)
	b.sees(".notices", "the change was not undone: somebody else has changed the key since.")
	b.click("button", "Undo")
	b.sees("main pre", "bye")
	b.keeps(a, "greeting", "bye")
}

// The history of a key that changes often is asked for once at a time, and what the reader has read of
// it stays.
func TestStateHistoryOfBusyKey(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	first := a.write("color", "red")
	for n := range 12 {
		a.write("color", fmt.Sprintf("blue-%d", n))
	}
	l := newLine(t, a)
	b := openTab(t)
	b.waitsOn()
	b.open(l.url + "?view=state&only=history&key=color")
	b.sees(".versions", "as it is now blue-11")
	b.click("button", "Earlier ones")
	b.sees(".versions", fmt.Sprintf("%d created, 3 bytes red", first))
	hold := func(r *http.Request) bool { return r.URL.Query().Has("history") }
	l.hold.Store(&hold)
	a.write("color", "green-0")
	pass := <-l.held
	for n := 1; n < 6; n++ {
		a.write("color", fmt.Sprintf("green-%d", n))
		b.sees("main pre", fmt.Sprintf("green-%d", n))
	}
	if n := len(l.held); n > 0 {
		t.Errorf("%d more requests for the history are sent while one is not answered", n)
	}
	l.hold.Store(nil)
	close(pass)
	b.sees(".versions", "as it is now green-5")
	b.sees(".versions", "blue-5") // it was read with the earlier ones
}
