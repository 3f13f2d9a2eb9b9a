package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"disc/discovery"
)

// answering returns a client of a server whose handler is a function.
func answering(t *testing.T, answer http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(answer)
	c, err := NewClient(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.CloseIdle()
		s.Close()
	})
	return c
}

func TestNewClient(t *testing.T) {
	for address, base := range map[string]string{
		"http://127.0.0.1:3472":  "http://127.0.0.1:3472",
		"http://127.0.0.1:3472/": "http://127.0.0.1:3472",
		"127.0.0.1:1":            "http://127.0.0.1:1",
		"[::1]:1":                "http://[::1]:1",
		"https://agent.example":  "https://agent.example",
		"unix:///run/disc.sock":  "http://localhost",
	} {
		t.Run(address, func(t *testing.T) {
			c, err := NewClient(address)
			if err != nil || c.BaseURL != base {
				t.Errorf("%q: %+v, %v", address, c, err)
			}
		})
	}
	for _, address := range []string{"", "unix://relative", "ftp://host", "http://", "http://[::1", "http://a b"} {
		t.Run(address, func(t *testing.T) {
			if _, err := NewClient(address); !errors.Is(err, discovery.ErrInvalid) {
				t.Errorf("%q: %v", address, err)
			}
		})
	}
}

func TestZeroClientAsksTheDefaultAddress(t *testing.T) {
	if c := new(Client); c.base() != "http://127.0.0.1:3472" || c.client().Transport != nil || c.client().CheckRedirect == nil {
		t.Errorf("base %s", c.base())
	}
}

func TestErrorsNameTheAddress(t *testing.T) {
	const address = "127.0.0.1:1" // nobody listens there
	c, err := NewClient(address)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Agent(t.Context())
	want := fmt.Sprintf("ask agent at http://%s: connection refused; is 'disc agent' running? (set --agent)", address)
	if err == nil || err.Error() != want || !errors.Is(err, discovery.ErrUnavailable) {
		t.Errorf("error %v, want %s", err, want)
	}
	c, err = NewClient("unix:///nonexistent/disc.sock")
	if err != nil {
		t.Fatal(err)
	}
	if _, err = c.Agent(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "ask agent at unix:///nonexistent/disc.sock: no such file") {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = c.Agent(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, discovery.ErrUnavailable) {
		t.Errorf("error of an ended context %v", err)
	}
}

// TestTokenIsNotSentInClear expects no request, not even a connection, to another host.
func TestTokenIsNotSentInClear(t *testing.T) {
	for address, ok := range map[string]bool{
		"http://127.0.0.1:1": true, "http://127.9.9.9:1": true, "http://localhost:1": true, "http://[::1]:1": true, "unix:///nowhere/s": true, "https://192.0.2.1:1": true,
		"http://192.0.2.1:1": false, "http://agent.example:1": false, "192.0.2.1:1": false, "http://[2001:db8::1]:1": false, "http://localhost.example:1": false,
	} {
		t.Run(address, func(t *testing.T) {
			c, err := NewClient(address)
			if err != nil {
				t.Fatal(err)
			}
			asked := false
			c.HTTP.Transport = roundTripper(func(*http.Request) (*http.Response, error) {
				asked = true
				return nil, io.ErrUnexpectedEOF
			})
			for _, allowed := range []bool{false, true} {
				for _, token := range []string{"", "s3cret"} {
					asked, c.Token, c.SendTokenInClear = false, token, allowed
					_, err := c.Agent(t.Context())
					if want := ok || allowed || token == ""; asked != want || !want && (!errors.Is(err, discovery.ErrForbidden) || strings.Contains(err.Error(), "s3cret")) {
						t.Errorf("token %q, allowed %v: asked %v, %v", token, allowed, asked, err)
					}
				}
			}
		})
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestRedirectsAreNotFollowed expects the token to stay with the agent.
// TestRefusedTokenIsReadAgain replaces the token of an agent, as a reload does.
func TestRefusedTokenIsReadAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		status int
		read   string
		err    error
		sent   string // the tokens, of two requests
		want   string // the error; "": none
	}{
		"another":               {401, "new", nil, "old new new", ""},
		"another with scopes":   {403, "new", nil, "old new new", ""},
		"the same":              {401, "old", nil, "old old", "refused"},
		"none":                  {401, "", nil, "old old", "refused"},
		"another that is wrong": {401, "older", nil, "old older older", "refused"},
		"no file":               {401, "", errors.New("open token: gone"), "old old", "refused; and no other token can be read: open token: gone"},
		"another failure":       {503, "new", nil, "old old", "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			var sent []string
			c := answering(t, func(w http.ResponseWriter, r *http.Request) {
				token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
				sent = append(sent, token)
				if b, err := io.ReadAll(r.Body); string(b) != "value" || err != nil {
					t.Errorf("body %q, %v", b, err)
				}
				if token != "new" {
					w.WriteHeader(tt.status)
					fmt.Fprint(w, `{"detail":"refused"}`)
				}
			})
			c.Token, c.ReadToken = "old", func(context.Context) (string, error) { return tt.read, tt.err }
			for range 2 {
				_, err := c.call(t.Context(), request{method: "PUT", path: "/v1/kv/a", body: []byte("value")}, nil)
				if got := fmt.Sprint(err); got != tt.want && (err != nil || tt.want != "") {
					t.Errorf("%v, want %q", err, tt.want)
				}
				if tt.status != 503 && (err != nil) != errors.Is(err, discovery.ErrForbidden) {
					t.Errorf("%v is no ErrForbidden", err)
				}
			}
			if got := strings.Join(sent, " "); got != tt.sent {
				t.Errorf("sent %q, want %q", got, tt.sent)
			}
		})
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var asked []string
	c := answering(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path)
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	c.Token = "s3cret"
	if _, err := c.Agent(t.Context()); err == nil || !strings.Contains(err.Error(), "307") || len(asked) != 1 {
		t.Errorf("%v, asked %v", err, asked)
	}
}

func TestProblemsBecomeErrors(t *testing.T) {
	for status, kind := range map[int]error{
		400: discovery.ErrInvalid, 405: discovery.ErrInvalid, 413: discovery.ErrInvalid, 415: discovery.ErrInvalid,
		401: discovery.ErrForbidden, 403: discovery.ErrForbidden, 421: discovery.ErrForbidden,
		404: discovery.ErrNotFound, 409: discovery.ErrConflict, 412: discovery.ErrConflict, 503: discovery.ErrUnavailable, 500: nil,
	} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			c := answering(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(status)
				fmt.Fprintf(w, `{"type":"about:blank","status":%d,"detail":"do this"}`, status)
			})
			_, err := c.Agent(t.Context())
			if err == nil || err.Error() != "do this" {
				t.Errorf("%d: %v", status, err)
			}
			for _, k := range []error{discovery.ErrInvalid, discovery.ErrForbidden, discovery.ErrNotFound, discovery.ErrConflict, discovery.ErrUnavailable} {
				if errors.Is(err, k) != (k == kind) {
					t.Errorf("%d is %v: %v", status, k, errors.Is(err, k))
				}
			}
		})
	}
}

// A path that an agent of another version does not have says nothing of the thing that was asked for.
func TestPathsOfAnotherVersion(t *testing.T) {
	for detail, status := range map[string]int{
		"there is no /v1/agent here; see /openapi.json for what there is":    404, // 0.1.0
		"path /v1/agent does not exist; see /openapi.json for those that do": 404,
		"/v1/agent does not take GET; use PUT":                               405,
	} {
		t.Run(detail, func(t *testing.T) {
			c := answering(t, func(w http.ResponseWriter, _ *http.Request) {
				if status == http.StatusMethodNotAllowed {
					w.Header().Set("Allow", "PUT")
				}
				w.WriteHeader(status)
				fmt.Fprintf(w, `{"type":"about:blank","status":%d,"detail":%q}`, status, detail)
			})
			if _, err := c.Agent(t.Context()); errors.Is(err, discovery.ErrNotFound) || err == nil || !strings.Contains(err.Error(), "earlier version") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// What is not found may have any name.
func TestNotFoundWithSuchAName(t *testing.T) {
	for _, detail := range []string{`key "a; see /openapi.json for those that do" does not exist`, `there is no key "/v1 here; see /openapi.json for what there is"`} {
		c := answering(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprintf(w, `{"type":"about:blank","status":404,"detail":%q}`, detail)
		})
		if _, err := c.Agent(t.Context()); !errors.Is(err, discovery.ErrNotFound) {
			t.Errorf("%s: %v", detail, err)
		}
	}
}

func TestAnswersThatAreNoProblem(t *testing.T) {
	c := answering(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) })
	if _, err := c.Agent(t.Context()); err == nil || !strings.Contains(err.Error(), "answered 502 Bad Gateway, without a reason") {
		t.Errorf("%v", err)
	}
	c = answering(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") })
	if _, err := c.Agent(t.Context()); !errors.Is(err, discovery.ErrUnavailable) || !strings.Contains(err.Error(), "the answer to GET /v1/agent is not JSON") {
		t.Errorf("%v", err)
	}
}

func TestRequestsCarryTheirOptions(t *testing.T) {
	var got *http.Request
	c := answering(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		io.WriteString(w, "{}")
	})
	c.Token = "secret"
	half := 0.5
	_, _, err := c.Lookup(t.Context(), "a/b", LookupOptions{
		Select: Select{Tags: []string{"x", "y"}, Zone: "z", Node: "n", Meta: map[string]string{"Team": "core"}, Port: "grpc", Filter: "weight > 1"},
		Status: discovery.StatusAny, PreferZone: true, Pick: 2, Panic: &half, Explain: true, Wait: Wait{Index: 7, For: time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "/v1/lookup/a%2Fb?explain=&filter=weight+%3E+1&index=7&meta.Team=core&node=n&panic=0.5&pick=2&port=grpc&prefer=zone&status=any&tag=x&tag=y&wait=1s&zone=z"
	if got.RequestURI != want || got.Header.Get("Authorization") != "Bearer secret" {
		t.Errorf("asked %s with %v", got.RequestURI, got.Header)
	}
}

// An agent whose host has vanished closes no connection: only its silence shows it.
func TestSilenceIsALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		c := &Client{BaseURL: "http://agent", HTTP: &http.Client{Transport: &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) { return here, nil },
		}}}
		go func() {
			buf := make([]byte, 4096)
			_, _ = there.Read(buf)
			_, _ = io.WriteString(there, "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n")
			time.Sleep(StreamKeepalive)
			_, _ = io.WriteString(there, "1\r\n\n\r\n")
		}()
		begun := time.Now()
		held, err := c.Hold(t.Context(), discovery.Registration{Service: "web", ID: "1"})
		if err != nil {
			t.Fatal(err)
		}
		defer held.Close()
		if err := held.Wait(); !errors.Is(err, discovery.ErrUnavailable) || !strings.Contains(err.Error(), "silent for too long") {
			t.Errorf("%v", err)
		}
		if took := time.Since(begun); took != 4*StreamKeepalive {
			t.Errorf("lost after %v, want one keepalive and three without", took)
		}
		there.Close()
	})
}

func TestHoldEndsWithItsContext(t *testing.T) {
	c := answering(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "{}\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	held, err := c.Hold(ctx, discovery.Registration{Service: "web", ID: "1"})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	cancel()
	if err := held.Wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestHoldIsLostWithItsConnection(t *testing.T) {
	c := answering(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "{}\n")
		_ = http.NewResponseController(w).Flush()
	})
	held, err := c.Hold(t.Context(), discovery.Registration{Service: "web", ID: "1"})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := held.Wait(); !errors.Is(err, discovery.ErrUnavailable) || !strings.Contains(err.Error(), "the agent closed the connection") {
		t.Errorf("%v", err)
	}
}

// A name that a server would take for another path is refused before a request is sent.
func TestNamesThatArePaths(t *testing.T) {
	client, err := NewClient("127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", ".", ".."} {
		for what, ask := range map[string]func() error{
			"lookup":   func() error { _, _, err := client.Lookup(t.Context(), name, LookupOptions{}); return err },
			"service":  func() error { _, _, err := client.Instances(t.Context(), name, ListOptions{}); return err },
			"instance": func() error { _, _, err := client.Instance(t.Context(), name, "x", Wait{}); return err },
			"limit":    func() error { _, err := client.Limit(t.Context(), name); return err },
			"lock":     func() error { _, err := client.LockQueue(t.Context(), name); return err },
			"release":  func() error { return client.ReleaseClaim(t.Context(), name) },
		} {
			if err := ask(); !errors.Is(err, discovery.ErrInvalid) {
				t.Errorf("%s of %q: got %v, want an ErrInvalid", what, name, err)
			}
		}
	}
}
