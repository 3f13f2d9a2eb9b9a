package fastpath

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"disc/discovery/retry/retrytest"
)

// fixedAnswerer answers each request with one body.
type fixedAnswerer struct{ body []byte }

func (fixedAnswerer) HostAllowed(host string, _ net.Addr) bool { return host == "localhost" }

func (f fixedAnswerer) Answer(r Request, a *Answer) bool {
	a.Header = append(a.Header, "Etag: \"1\"\r\n"...)
	if a.NotModified = string(r.IfNoneMatch) == `"1"`; !a.NotModified {
		a.ContentType, a.Body = "text/plain", f.body
	}
	return r.Path != "/unknown"
}

func TestRespond(t *testing.T) {
	r := NewResponder(fixedAnswerer{[]byte("hello")}, nil)
	now := time.Date(2024, 2, 3, 4, 5, 6, 0, time.UTC)
	const date = "Date: Sat, 03 Feb 2024 04:05:06 GMT\r\n\r\n"
	for _, tt := range []struct{ name, request, want string }{
		{"content", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\nEtag: \"1\"\r\n" + date + "hello"},
		{"not modified", "GET / HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: \"1\"\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nEtag: \"1\"\r\n" + date},
		{"another host", "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", ""},
		{"no answer", "GET /unknown HTTP/1.1\r\nHost: localhost\r\n\r\n", ""},
		{"not plain", "GET /?q HTTP/1.1\r\nHost: localhost\r\n\r\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, n := r.Respond([]byte(tt.request+"GET"), now)
			if string(got) != tt.want || (n != 0) != (tt.want != "") || n != 0 && n != len(tt.request) {
				t.Errorf("%q, %d bytes of %d; want %q", got, n, len(tt.request), tt.want)
			}
		})
	}
}

// openConns returns the number of connections that the listener answers on itself.
func openConns(l *Listener) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open)
}

// pipeListener accepts the ends of pipes, which have no buffers.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipeListener) Close() error { close(p.closed); return nil }

func (*pipeListener) Addr() net.Addr { return nil }

// request opens a connection and sends a request on it.
func (p *pipeListener) request(t *testing.T) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	t.Cleanup(func() { client.Close() })
	p.conns <- server
	if _, err := io.WriteString(client, wholeRequest); err != nil {
		t.Fatal(err)
	}
	return client
}

// Idle connections end with the listener; those whose caller does not read end with Wait.
func TestCloseEndsConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pipes := &pipeListener{make(chan net.Conn), make(chan struct{})}
		timeouts := Timeouts{ReadHeader: 10 * time.Second, Idle: 2 * time.Minute, Write: 30 * time.Second}
		l := NewListener(pipes, fixedAnswerer{[]byte("hello")}, timeouts, slog.New(slog.DiscardHandler))
		ran := make(chan struct{})
		go func() { l.Run(); close(ran) }()
		idle := pipes.request(t)
		resp, err := http.ReadResponse(bufio.NewReader(idle), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		pipes.request(t) // its answer is not read
		synctest.Wait()
		if n := openConns(l); n != 2 {
			t.Fatalf("%d connections, want both", n)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		<-ran
		if _, err := idle.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the idle connection: %v", err)
		}
		synctest.Wait()
		if n := openConns(l); n != 1 {
			t.Errorf("%d connections after the end of the idle one, want 1", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		l.Wait(ctx)
		if n := openConns(l); n != 0 {
			t.Error("the connection whose caller does not read is still there")
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accepts after its end: %v", err)
		}
	})
}

func TestRespondAllocatesNothing(t *testing.T) {
	r, request := NewResponder(fixedAnswerer{[]byte("hello")}, nil), []byte(wholeRequest)
	if n := retrytest.Allocations(1000, func() {
		if _, n := r.Respond(request, time.Now()); n != len(request) {
			t.Fatal("not answered")
		}
	}); n > 0 {
		t.Errorf("%v allocations a request", n)
	}
}
