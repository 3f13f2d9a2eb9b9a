package browser_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// The first view is drawn after two round trips over HTTP/1.1: one for the page, and one for all that
// it needs. On a line of any latency none of these requests waits for another: each is answered only
// when all have come. A browser has six at once. What it asks for beyond them is not answered before
// the view is drawn.
func TestFirstViewTakesTwoRoundTrips(t *testing.T) {
	etcd := etcdtest.Start(t)
	a := startAgent(t, etcd.Endpoint())
	a.register("web", "web-1")
	a.knowsItself() // the nodes are read once
	line := newSlowLine(t, a)
	b := openTab(t)
	go func() { _ = chromedp.Do(b.ctx, chromedp.Navigate(line.url)) }() // it waits for what is not answered
	retrytest.Succeeds(t, line.second)
	t.Logf("in the second round trip: %s", strings.Join(line.came(), " "))
	close(line.answers)
	b.sees(rows, "web 1 of 1")
	b.sees(freshness, "live")
	b.sees(".totals", "1 node")
	b.sees("main", "The agent that answers")
	close(line.drawn)
	b.sees(freshness, "live")
}

// slowLine is a line to an agent on which all requests wait for each other.
type slowLine struct {
	url     string
	answers chan struct{} // closed: the requests of the second round trip are answered
	drawn   chan struct{} // closed: all are

	lock  sync.Mutex
	asked []string // after the page
}

func newSlowLine(t *testing.T, a *agent) *slowLine {
	t.Helper()
	l := &slowLine{answers: make(chan struct{}), drawn: make(chan struct{})}
	to := &url.URL{Scheme: "http", Host: a.address}
	proxy := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The agent takes the request for one of its own address.
		r.Header.Del("Origin")
		select {
		case <-l.turn(r.URL.Path):
			proxy.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() {
		s.CloseClientConnections() // streams
		s.Close()
	})
	l.url = s.URL
	return l
}

// needed are the paths that the first view needs besides the page, of the files of the page by their names.
var needed = []string{"style.css", "main.js", "/v1/watch", "/v1/agent", "/v1/nodes"}

// turn returns when a request is answered.
func (l *slowLine) turn(path string) <-chan struct{} {
	l.lock.Lock()
	defer l.lock.Unlock()
	if path == "/" && len(l.asked) == 0 {
		now := make(chan struct{})
		close(now)
		return now
	}
	first := !slices.Contains(l.asked, path)
	l.asked = append(l.asked, path)
	if first && slices.ContainsFunc(needed, func(name string) bool { return strings.HasSuffix(path, name) }) {
		return l.answers
	}
	return l.drawn
}

func (l *slowLine) came() []string {
	l.lock.Lock()
	defer l.lock.Unlock()
	return slices.Clone(l.asked)
}

// second reports what has not come in the second round trip.
func (l *slowLine) second() error {
	came := l.came()
	for _, name := range needed {
		if !slices.ContainsFunc(came, func(path string) bool { return strings.HasSuffix(path, name) }) {
			return fmt.Errorf("%s waits for another request; these have come at once: %s", name, strings.Join(came, " "))
		}
	}
	return nil
}
