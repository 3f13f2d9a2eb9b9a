package api

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"disc/discovery"
)

// A mail server may have greeted before net/http has sent the request.
func TestServerThatSpeaksFirst(t *testing.T) {
	mail := listening(t, func(c net.Conn) { io.WriteString(c, "220 mail\r\n") })
	c, err := NewClient("http://" + mail)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdle()
	said := 0
	for range 200 {
		_, err := c.Agent(t.Context())
		switch {
		case strings.Contains(err.Error(), "the server does not speak HTTP"):
			said++
		case !errors.Is(err, net.ErrClosed): // where net/http writes after it has closed the connection for that
			t.Fatalf("got %q", err)
		}
	}
	if said < 100 {
		t.Errorf("said in %d of 200 cases that the server does not speak HTTP", said)
	}
}

// TestUnreachable expects the address, the reason and what to do from whoever cannot ask an agent.
func TestUnreachable(t *testing.T) {
	missing := http.NotFoundHandler()
	plain := httptest.NewServer(missing)
	secure := httptest.NewTLSServer(missing)
	picky := httptest.NewUnstartedServer(missing)
	picky.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	picky.StartTLS()
	for _, s := range []*httptest.Server{plain, secure, picky} {
		t.Cleanup(s.Close)
	}
	mail := listening(t, func(c net.Conn) { io.WriteString(c, "220 mail\r\n") })
	closing := listening(t, func(net.Conn) {})
	for name, test := range map[string]struct {
		address, cause, next string
		trusting             bool
	}{
		"refused":               {"http://127.0.0.1:1", "connection refused", "is 'disc agent' running?", false},
		"no such host":          {"http://nowhere.invalid:3472", "lookup nowhere.invalid", "--agent", false},
		"no TLS":                {"https://" + plain.Listener.Addr().String(), "server gave HTTP response to HTTPS client", "http://", false},
		"TLS":                   {"http://" + secure.Listener.Addr().String(), "the server has TLS", "https://", false},
		"unknown authority":     {secure.URL, "x509: certificate signed by unknown authority", "--agent-cacert", false},
		"no client certificate": {picky.URL, "certificate required", "--agent-cert and --agent-key", true},
		"not an agent":          {plain.URL, "it has no /v1/agent (404 Not Found)", "--agent", false},
		"not HTTP":              {"http://" + mail, "the server does not speak HTTP", "--agent", false},
		"closes":                {"http://" + closing, "the server ended the connection", "https://", false},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := NewClient(test.address)
			if err != nil {
				t.Fatal(err)
			}
			c.UseTLS(&tls.Config{InsecureSkipVerify: test.trusting})
			defer c.CloseIdle()
			_, err = c.Agent(t.Context())
			for errors.Is(err, net.ErrClosed) { // as in TestServerThatSpeaksFirst
				_, err = c.Agent(t.Context())
			}
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range []string{"agent at " + test.address, test.cause, test.next} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want %q", err, want)
				}
			}
			if !errors.Is(err, discovery.ErrUnavailable) || errors.Is(err, discovery.ErrNotFound) {
				t.Errorf("%v is of the wrong kind", err)
			}
		})
	}
}

// TestUnreadable expects the cause of an answer that breaks off, or that no agent gives, in the
// same words from a request that stays open.
func TestUnreadable(t *testing.T) {
	promised := func(w http.ResponseWriter, body string) {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, body)
	}
	for name, test := range map[string]struct {
		answer  http.HandlerFunc
		want    string
		noAgent bool
	}{
		"page":       {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, "/v1/%s is not JSON", true},
		"list":       {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "[]") }, "/v1/%s is not what an agent answers", true},
		"field":      {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"node":{},"id":{}}`) }, "is of another type", true},
		"empty":      {func(http.ResponseWriter, *http.Request) {}, "/v1/%s is empty", true},
		"breaks off": {func(w http.ResponseWriter, _ *http.Request) { promised(w, `{"node":`) }, "the agent closed the connection; is 'disc agent' running?", false},
		"no body":    {func(w http.ResponseWriter, _ *http.Request) { promised(w, "") }, "the agent closed the connection; is 'disc agent' running?", false},
	} {
		t.Run(name, func(t *testing.T) {
			c := answering(t, test.answer)
			_, asked := c.Agent(t.Context())
			_, held := c.Hold(t.Context(), discovery.Registration{Service: "web", ID: "1"})
			for path, err := range map[string]error{"agent": asked, "services/web/instances/1": held} {
				want := strings.Replace(test.want, "%s", path, 1)
				if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "EOF") || strings.Contains(err.Error(), "json:") {
					t.Errorf("got %v, want %q", err, want)
				}
				if NoAgent(err) != test.noAgent || !errors.Is(err, discovery.ErrUnavailable) {
					t.Errorf("%v is of the wrong kind", err)
				}
			}
		})
	}
}

// silence never answers a request.
type silence struct{}

func (silence) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// TestTimeoutOfTheUser expects that a request without an answer is not told as a failed dial.
func TestTimeoutOfTheUser(t *testing.T) {
	c := Client{HTTP: &http.Client{Timeout: time.Millisecond, Transport: silence{}}}
	if _, err := c.Agent(t.Context()); err == nil || !strings.Contains(err.Error(), ": no answer in time; is it overloaded") {
		t.Errorf("got %v", err)
	}
}

func TestNoAnswerInTime(t *testing.T) {
	c, err := NewClient("http://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	if _, err := c.Agent(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "ask agent at http://127.0.0.1:1: no answer in time") {
		t.Errorf("got %v", err)
	}
}

// listening returns an address where each connection is closed after serve.
func listening(t *testing.T, serve func(net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serve(conn)
			conn.Read(make([]byte, 4096))
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}
