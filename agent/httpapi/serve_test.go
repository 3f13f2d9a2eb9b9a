package httpapi

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"disc/agent/api"
	"disc/agent/api/apitest"
)

var validator = sync.OnceValues(func() (*apitest.Validator, error) { return apitest.NewValidator(OpenAPI()) })

// description returns the description of the API, which all tests share.
func description(t testing.TB) *apitest.Validator {
	t.Helper()
	v, err := validator()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// server is an API that answers on a socket. Each answer is checked against the
// description.
type server struct {
	*api.Client
	t       testing.TB
	api     *API
	address string
}

// serve serves an API on a port of its own until the test ends.
func serve(t testing.TB, a *API) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, a, l, "http://"+l.Addr().String())
}

func serveUnix(t testing.TB, a *API) *server {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, a, l, "unix://"+path)
}

func serveOn(t testing.TB, a *API, l net.Listener, address string) *server {
	t.Helper()
	return serveListener(t, a, LimitListener(l, MaxConnections), address)
}

// serveListener serves an API on a listener that is limited already.
func serveListener(t testing.TB, a *API, l net.Listener, address string) *server {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- a.Serve(ctx, l) }()
	client, err := api.NewClient(address)
	if err != nil {
		t.Fatal(err)
	}
	client.HTTP.Transport = description(t).Transport(client.HTTP.Transport)
	t.Cleanup(func() {
		client.CloseIdle()
		cancel()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return &server{client, t, a, l.Addr().String()}
}

// servePipes serves an API over pipes, inside a bubble and until the test ends. dial opens a
// connection. Neither end of a pipe has a buffer: a write returns when the other end has read
// it.
func servePipes(t *testing.T, a *API) (dial func() net.Conn) {
	t.Helper()
	return serveLimitedPipes(t, a, MaxConnections)
}

// serveLimitedPipes is servePipes with at most so many connections at once, and with what layers
// put on top.
func serveLimitedPipes(t *testing.T, a *API, limit int, layers ...func(net.Listener) net.Listener) (dial func() net.Conn) {
	t.Helper()
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	limited := LimitListener(l, limit)
	for _, layer := range layers {
		limited = layer(limited)
	}
	go func() { served <- a.Serve(ctx, limited) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return func() net.Conn {
		client, server := net.Pipe()
		t.Cleanup(func() { client.Close() })
		l.conns <- server
		return client
	}
}

// pipeListener accepts the ends of pipes.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (*pipeListener) Addr() net.Addr { return nil }

// in returns the server for use in a subtest.
func (s *server) in(t *testing.T) *server {
	sub := *s
	sub.t = t
	return &sub
}

// answer is an answer whose body was read.
type answer struct {
	*http.Response
	body string
}

// do sends a request of "METHOD /path", with a body and headers "Name: value".
func (s *server) do(request, body string, headers ...string) answer {
	s.t.Helper()
	method, path, _ := strings.Cut(request, " ")
	req, err := http.NewRequest(method, s.BaseURL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if body == "" {
		req.Body, req.ContentLength = http.NoBody, 0
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			req.Host = value
		}
		req.Header.Set(name, value)
	}
	resp, err := s.HTTP.Do(req)
	if err != nil {
		s.t.Fatalf("%s: %v", request, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%s: %v", request, err)
	}
	return answer{resp, string(b)}
}

// want fails the test unless the answer has the status and contains all the texts.
func (s *server) want(request, body string, status int, texts ...string) answer {
	s.t.Helper()
	got := s.do(request, body)
	got.want(s.t, status, texts...)
	return got
}

func (a answer) want(t testing.TB, status int, texts ...string) {
	t.Helper()
	if a.StatusCode != status {
		t.Errorf("%s %s: %s, want %d: %s", a.Request.Method, a.Request.URL, a.Status, status, a.body)
	}
	for _, text := range texts {
		if !strings.Contains(a.body, text) {
			t.Errorf("%s %s: %q is not in %s", a.Request.Method, a.Request.URL, text, a.body)
		}
	}
}
