package httpapi

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/retry/retrytest"
)

// streams waits until so many streams of a kind are open.
func streams(t *testing.T, s *server, kind string, n int) {
	t.Helper()
	retrytest.Eventually(t, fmt.Sprintf("%d open of kind %s", n, kind), func() bool { return openStreams(t, s.api, kind) == n })
}

func openStreams(t *testing.T, a *API, kind string) int {
	t.Helper()
	var m dto.Metric
	if err := a.metrics.streams.WithLabelValues(kind).Write(&m); err != nil {
		t.Fatal(err)
	}
	return int(m.GetGauge().GetValue())
}

func TestReadiness(t *testing.T) {
	f := newFleet()
	s := serve(t, f.api(t, Options{}))
	for _, path := range []string{"/healthz", "/readyz", "/readyz/lookup", "/readyz/registered"} {
		s.want("GET "+path, "", 200, "ok\n")
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	f.update(func() { f.notReady = [2]error{errors.New("no view yet"), errors.New("web/web-1 is to be written")} })
	s.want("GET /healthz", "", 200)
	s.want("GET /readyz", "", 503, `lookup: no view yet\nregistered: web/web-1 is to be written`)
	s.want("GET /readyz/lookup", "", 503, `"lookup: no view yet"`)
	s.want("GET /readyz/registered", "", 503, `"registered: web/web-1 is to be written"`)
	if err := s.Ready(t.Context()); !errors.Is(err, discovery.ErrUnavailable) || !strings.Contains(err.Error(), "no view yet") {
		t.Errorf("%v", err)
	}
}

func TestLiveness(t *testing.T) {
	f := newFleet()
	s := serve(t, f.api(t, Options{}))
	f.update(func() { f.stuck = errors.New("stuck: catalog; restart the agent") })
	s.want("GET /healthz", "", 503, "stuck: catalog")
	s.want("GET /v1/services", "", 200)
}

func TestAgentStatus(t *testing.T) {
	s := serve(t, newFleet().api(t, Options{}))
	got, err := s.Agent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.Node != "host-1" || got.Session.TTL != discovery.Duration(15*time.Second) || got.Registrations[0].ID != "web-1" {
		t.Errorf("agent %+v", got)
	}
	s.want("GET /v1/agent", "", 200, `"endpoints":[]`, `"checks":[]`, `"ttl":"15s"`)
}

func TestMetricsCountByRoute(t *testing.T) {
	registry := prometheus.NewRegistry()
	s := serve(t, withWebs(1).api(t, Options{Registerer: registry, Gatherer: registry}))
	s.want("GET /v1/lookup/web", "", 200)
	s.want("GET /v1/lookup/web?zone=a", "", 200)
	s.want("GET /v1/lookup/nosuch", "", 404)
	s.want("GET /v1/services/web/instances/web-1", "", 200)
	s.want("GET /nosuch", "", 404)
	s.want("GET /metrics", "", 200,
		`disc_http_requests_total{code="200",route="GET /v1/lookup/{name}"} 2`,
		`disc_http_requests_total{code="404",route="GET /v1/lookup/{name}"} 1`,
		`disc_http_requests_total{code="200",route="GET /v1/services/{service}/instances/{id}"} 1`,
		`disc_http_requests_total{code="404",route="none"} 1`)
	f := newFleet()
	if _, err := New(f.backends(), Options{Registerer: registry, Gatherer: registry}); err == nil {
		t.Error("metrics were registered twice")
	}
}

func TestInvalidOptions(t *testing.T) {
	f := newFleet()
	if _, err := New(f.backends(), Options{Panic: 2}); !errors.Is(err, discovery.ErrInvalid) {
		t.Errorf("panic 2: %v", err)
	}
}

func TestShutdownEndsWhatIsOpen(t *testing.T) {
	f := withWebs(1)
	s := serve(t, f.api(t, Options{}))
	held, err := s.Hold(t.Context(), discovery.Registration{Service: "held", ID: "h-1"})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	ended := make(chan error, 3)
	go func() { ended <- held.Wait() }()
	go func() {
		_, _, err := s.Lookup(context.WithoutCancel(t.Context()), "web", api.LookupOptions{Wait: api.Wait{Index: 1, For: 10 * time.Minute}})
		ended <- err
	}()
	go func() {
		for _, err := range s.Watch(context.WithoutCancel(t.Context()), "", "") {
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	streams(t, s, "wait", 1)
	streams(t, s, "watch", 1)
	s.api.EndStreams()
	lost := 0
	for range cap(ended) {
		if err := <-ended; errors.Is(err, discovery.ErrUnavailable) {
			lost++
		} else if err != nil {
			t.Error(err)
		}
	}
	if lost != 2 {
		t.Errorf("%d streams were lost, want the watch and the hold", lost)
	}
	if name := <-f.released; name != "held/h-1" {
		t.Errorf("released %s", name)
	}
}

func TestUnixSocket(t *testing.T) {
	s := serveUnix(t, withWebs(1).api(t, Options{}))
	if _, _, err := s.Lookup(t.Context(), "web", api.LookupOptions{}); err != nil {
		t.Error(err)
	}
	s.do("GET /v1/lookup/web", "", "Host: whatever").want(t, 200)
	s.do("GET /v1/lookup/web", "", "Host: evil.example:3472").want(t, 421, "http.allow_hosts")
}

func TestTLS(t *testing.T) {
	example := httptest.NewUnstartedServer(nil) // for its certificate
	example.EnableHTTP2 = true
	example.StartTLS()
	defer example.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	a := withWebs(1).api(t, Options{})
	go func() { served <- a.Serve(ctx, tls.NewListener(LimitListener(l, MaxConnections), example.TLS)) }()
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		transport := example.Client().Transport.(*http.Transport).Clone()
		transport.ForceAttemptHTTP2 = protocol == "HTTP/2.0"
		if !transport.ForceAttemptHTTP2 {
			transport.TLSClientConfig.NextProtos = []string{"http/1.1"}
		}
		client := &http.Client{Transport: transport}
		resp, err := client.Get("https://" + l.Addr().String() + "/v1/lookup/web")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.Proto != protocol || resp.StatusCode != 200 {
			t.Errorf("%s: %s %s", protocol, resp.Proto, resp.Status)
		}
		client.CloseIdleConnections()
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestServeFailsWithItsListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := newFleet().api(t, Options{}).Serve(t.Context(), l); err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("%v", err)
	}
}

func TestBodiesAreLimited(t *testing.T) {
	s := serve(t, newFleet().api(t, Options{}))
	big := `{"meta":{"k":"` + strings.Repeat("x", api.MaxBody) + `"}}`
	s.want("PUT /v1/services/web/instances/web-1", big, 413, "larger than 1048576 bytes")
}

func TestHeadersAreLimited(t *testing.T) {
	s := serve(t, newFleet().api(t, Options{}))
	conn := dial(t, s)
	fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n", strings.Repeat("x", 2*MaxHeader))
	b, _ := io.ReadAll(conn) // the server may reset what it did not read
	if len(b) > 0 && !strings.HasPrefix(string(b), "HTTP/1.1 431") {
		t.Errorf("answer %q", b)
	}
}

// dial opens a bare connection to a server.
func dial(t *testing.T, s *server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestServerHasLimits(t *testing.T) {
	s := newFleet().api(t, Options{}).NewServer()
	if s.ReadHeaderTimeout == 0 || s.WriteTimeout == 0 || s.IdleTimeout == 0 || s.MaxHeaderBytes != MaxHeader || s.ReadTimeout != 0 {
		t.Errorf("limits %+v", s)
	}
}

// A body that never comes must not keep a connection open forever, whether the route reads
// it or not.
func TestSlowBodiesAreDropped(t *testing.T) {
	for name, c := range map[string]struct {
		request string
		length  int
		limit   time.Duration
	}{
		"large":           {"PUT /v1/services/web/instances/web-1", smallBody + 1, bodyTime},
		"small":           {"PUT /v1/services/web/instances/web-1", 100, smallBodyTime},
		"not read":        {"GET /healthz", 100, refusedBodyTime},
		"of a lookup":     {"GET /v1/lookup/web", 100, refusedBodyTime},
		"large, not read": {"GET /healthz", drainedBody + 1, refusedBodyTime},
	} {
		request, limit := c.request, c.limit
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := servePipes(t, newFleet().api(t, Options{}))()
				fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n{", request, c.length)
				began := time.Now()
				if _, err := io.ReadAll(conn); err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took < limit || took > limit+time.Second {
					t.Errorf("the connection was open for %v, want about %v", took, limit)
				}
			})
		})
	}
}

// A blocking query may outlast the write timeout of the server; its answer has a timeout of
// its own.
func TestBlockingOutlastsTheWriteTimeout(t *testing.T) {
	for path, status := range map[string]int{"/v1/lookup/web?index=1&wait=1m": 200, "/v1/lookup/nosuch?index=0&wait=1m": 404} {
		t.Run(path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := servePipes(t, withWebs(1).api(t, Options{}))()
				began := time.Now()
				got := exchange(t, conn, bufio.NewReader(conn), "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
				if took := time.Since(began); got.StatusCode != status || took != time.Minute || took <= writeTime {
					t.Errorf("%s after %v, want %d after a minute, which is longer than %v", got.Status, took, status, writeTime)
				}
			})
		})
	}
}

// A stream goes on as long as its caller reads. The connection of a caller that does not read
// is closed.
func TestReaderThatDoesNotReadIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := withWebs(1).api(t, Options{})
		conn := servePipes(t, a)()
		fmt.Fprint(conn, "GET /v1/watch HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if err := conn.SetReadDeadline(time.Now().Add(time.Hour + time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("while the caller reads: %v", err)
		}
		time.Sleep(writeTime)
		synctest.Wait()
		if n := openStreams(t, a, "watch"); n != 1 {
			t.Errorf("%d watches are open before the caller is late, want 1", n)
		}
		time.Sleep(api.StreamKeepalive)
		synctest.Wait()
		if n := openStreams(t, a, "watch"); n != 0 {
			t.Errorf("%d watches are open, want none", n)
		}
	})
}
