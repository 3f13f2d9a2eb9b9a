package check

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"disc/discovery"
)

func containsAll(s string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}

func serve(t *testing.T, handler http.HandlerFunc) string {
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.URL
}

func TestHTTPStatuses(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var code int
		fmt.Sscanf(r.URL.Path, "/%d", &code)
		w.WriteHeader(code)
		if code != http.StatusNoContent {
			fmt.Fprint(w, "the body")
		}
	})
	for code, want := range map[int]discovery.Status{
		200: discovery.Passing, 204: discovery.Passing, 299: discovery.Passing,
		429: discovery.Warning,
		304: discovery.Critical, 400: discovery.Critical, 404: discovery.Critical, 503: discovery.Critical,
	} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			r := probeOnce(t, discovery.CheckSpec{Type: discovery.CheckHTTP, URL: fmt.Sprintf("%s/%d", url, code)})
			if r.status != want || !strings.Contains(r.output, fmt.Sprintf("/%d: %d", code, code)) {
				t.Errorf("%d: got %+v, want %s", code, r, want)
			}
		})
	}
}

func TestHTTPSendsMethodAndHeaders(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s host=%s x=%s auth=%s agent=%s", r.Method, r.Host, r.Header.Get("X-Probe"), r.Header.Get("Authorization"), r.UserAgent())
	})
	r := probeOnce(t, discovery.CheckSpec{
		Type: discovery.CheckHTTP, URL: strings.Replace(url, "//", "//user:open-sesame@", 1) + "/?token=hidden-query", Method: "POST",
		Headers: map[string]string{"host": "web.example.com", "X-Probe": "yes", "Authorization": "Bearer 0123456789abcdef"},
	})
	if !containsAll(r.output, "POST host=web.example.com x=yes auth=*** agent=disc-check") {
		t.Errorf("output %q", r.output)
	}
	for _, secret := range []string{"0123456789abcdef", "open-sesame", "hidden-query"} {
		if strings.Contains(r.output, secret) {
			t.Errorf("%s is in the output: %q", secret, r.output)
		}
	}
}

func TestHTTPOutputIsTrimmed(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(strings.Repeat("ü", 1<<20)))
	})
	r := probeOnce(t, discovery.CheckSpec{Type: discovery.CheckHTTP, URL: url})
	if r.status != discovery.Passing || len(r.output) > MaxOutput || len(r.output) < MaxOutput-4 {
		t.Errorf("%s with %d bytes", r.status, len(r.output))
	}
}

func TestHTTPRedirects(t *testing.T) {
	var strangerAsked atomic.Bool
	stranger := serve(t, func(http.ResponseWriter, *http.Request) { strangerAsked.Store(true) })
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/home":
			fmt.Fprint(w, "home of "+r.Header.Get("X-Probe"))
		case "/here":
			http.Redirect(w, r, "/home", http.StatusFound)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/out":
			http.Redirect(w, r, stranger+"/private?token=hidden-query", http.StatusFound)
		}
	})
	for _, test := range []struct {
		path string
		want discovery.Status
		says string
	}{
		{"/here", discovery.Passing, "home of ***"},
		{"/loop", discovery.Critical, "10 redirects"},
		{"/out", discovery.Critical, "302 Found, a redirect that is not followed, to " + stranger + "/private"},
	} {
		t.Run(test.path, func(t *testing.T) {
			r := probeOnce(t, discovery.CheckSpec{Type: discovery.CheckHTTP, URL: url + test.path, Headers: map[string]string{"X-Probe": "sweet"}})
			if r.status != test.want || !strings.Contains(r.output, test.says) || strings.Contains(r.output, "hidden-query") {
				t.Errorf("%s: got %+v, want %s, %q", test.path, r, test.want, test.says)
			}
		})
	}
	if strangerAsked.Load() {
		t.Error("the other host was asked")
	}
}

func TestHTTPHung(t *testing.T) {
	release := make(chan struct{})
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			w.Write([]byte("begins"))
			w.(http.Flusher).Flush()
		}
		<-release
	})
	defer close(release)
	for _, path := range []string{"/", "/body"} {
		t.Run(path, func(t *testing.T) {
			r := probeOnce(t, discovery.CheckSpec{Type: discovery.CheckHTTP, URL: url + path, Timeout: discovery.Duration(50 * time.Millisecond)})
			if r.status != discovery.Critical || !strings.Contains(r.output, "no answer within 50ms") {
				t.Errorf("%s: got %+v", path, r)
			}
		})
	}
}

// A connection that stayed open would still answer after the listener is closed.
func TestHTTPNoticesADeadListener(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Listener.Close()
	var err error
	if server.Listener, err = net.Listen("tcp", "127.71.17.7:0"); err != nil { // where nobody else listens later
		t.Fatal(err)
	}
	server.Start()
	defer server.Close()
	r := discovery.Registration{Checks: []discovery.CheckSpec{{Type: discovery.CheckHTTP, URL: server.URL, Interval: minute, Timeout: minute}}}
	set, err := newScheduler(t, Options{}).NewSet(r.WithDefaults("127.0.0.1", ""), SetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := probeSet(t, set); got.status != discovery.Passing {
		t.Fatalf("got %+v", got)
	}
	server.Listener.Close()
	if got := probeSet(t, set); got.status != discovery.Critical || !strings.Contains(got.output, "connection refused") {
		t.Errorf("got %+v", got)
	}
}

func TestHTTPSIsVerified(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	r := discovery.Registration{Checks: []discovery.CheckSpec{{Type: discovery.CheckHTTP, URL: server.URL, Interval: minute, Timeout: minute}}}.WithDefaults("127.0.0.1", "")
	for _, test := range []struct {
		roots *x509.CertPool
		want  discovery.Status
	}{{nil, discovery.Critical}, {roots, discovery.Passing}} {
		set, err := newScheduler(t, Options{RootCAs: test.roots}).NewSet(r, SetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := probeSet(t, set); got.status != test.want {
			t.Errorf("got %+v, want %s", got, test.want)
		}
	}
}
