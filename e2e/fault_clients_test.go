package e2e_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"disc/agent/api"
	"disc/agent/httpapi"
	"disc/discovery/devetcd/etcdtest"
)

// Lookups are measured in rounds, without slow clients and with them in turn.
const (
	measureRounds = 5
	measureTime   = 400 * time.Millisecond
)

// TestFaultSlowClients runs a thousand clients that send their requests byte by byte, half of
// them the header and half the body. Other clients are answered as fast as before. The test is
// not parallel, since it measures time.
func TestFaultSlowClients(t *testing.T) {
	etcdtest.SkipUnlessLong(t, "loads an agent")
	const slow = 1000
	etcd := startMember(t)
	one := startSidecar(t, "one", etcd.endpoint)
	one.register(t, "web", "web-1")
	one.find(t, "web", "web-1")
	address := one.address(t)
	well, err := api.NewClient("http://" + address)
	if err != nil {
		t.Fatal(err)
	}
	median := func() time.Duration {
		var took []time.Duration
		for end := time.Now().Add(measureTime); time.Now().Before(end); {
			began := time.Now()
			if _, _, err := well.LookupText(t.Context(), "web", api.LookupOptions{}); err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		return took[len(took)/2]
	}
	median() // opens the connection
	var without, with []time.Duration
	for range measureRounds {
		without = append(without, median())
		stop := trickle(t, address, slow)
		with = append(with, median())
		stop()
	}
	// What else the machine does only makes a round slower, so the best ones are compared.
	before, during := slices.Min(without), slices.Min(with)
	// The thousand clients take the same cores for a moment every 200 ms. So the median is
	// compared, and a turn of the scheduler is no wait for a slow client.
	const turn = 5 * time.Millisecond
	t.Logf("median of a lookup: %v, with %d slow clients %v; bound %v plus %v", before, slow, during, 2*before, turn)
	if during > 2*before+turn {
		t.Errorf("a lookup takes %v with slow clients and %v without", during, before)
	}
}

// address returns the TCP address of an agent's API.
func (s *sidecar) address(t *testing.T) string {
	t.Helper()
	var at []string
	if !await(func() bool { at = listening.FindStringSubmatch(s.output.String()); return at != nil }) {
		t.Fatal("the agent does not log its addresses")
	}
	return at[1]
}

// The beginnings of slow requests: an unfinished header, and a header without its body.
const (
	slowHeader = "GET /v1/lookup/web HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
	slowBody   = "PUT /v1/services/web/instances/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
)

// trickle connects n slow clients, which send a byte every 200 ms until stop is called.
func trickle(t *testing.T, address string, n int) (stop func()) {
	t.Helper()
	const every = 200 * time.Millisecond
	conns := make([]net.Conn, n)
	for i := range conns {
		conns[i] = sendPartial(t, address, []string{slowHeader, slowBody}[i%2])
	}
	ctx, cancel := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	sending.Go(func() {
		for ctx.Err() == nil {
			for _, conn := range conns {
				_, _ = conn.Write([]byte("x")) // one that is closed sends nothing
			}
			select {
			case <-ctx.Done():
			case <-time.After(every):
			}
		}
	})
	return func() {
		cancel()
		sending.Wait()
		for _, conn := range conns {
			conn.Close()
		}
	}
}

// sendPartial opens a connection and sends the beginning of a request.
func sendPartial(t *testing.T, address, request string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err == nil {
		_, err = io.WriteString(conn, request)
	}
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestFaultSlowClientsAreDropped checks that the agent drops clients that take too long to send a
// request, and answers those that send too much.
func TestFaultSlowClientsAreDropped(t *testing.T) {
	etcdtest.SkipUnlessLong(t, "waits for time limits of half a minute")
	t.Parallel()
	etcd := startMember(t)
	one := startSidecar(t, "one", etcd.endpoint)
	one.register(t, "web", "web-1")
	address := one.address(t)
	for _, c := range []struct {
		what, request string
		bound         time.Duration
	}{
		{"a header", slowHeader, 10 * time.Second},
		{"a body", slowBody, 30 * time.Second},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			conn, began := sendPartial(t, address, c.request), time.Now()
			t.Cleanup(func() { conn.Close() })
			closed := make(chan struct{})
			go func() {
				defer close(closed)
				_, _ = io.Copy(io.Discard, conn) // until the connection ends
			}()
			within(t, began, c.bound, "the client that sends it byte by byte is dropped", func() error {
				_, _ = conn.Write([]byte("x")) // one that is closed sends nothing
				select {
				case <-closed:
					return nil
				case <-time.After(200 * time.Millisecond):
					return errors.New("the connection is open")
				}
			})
		})
	}
	for name, c := range map[string]struct {
		status  int
		request *http.Request
	}{
		"a header that is too large": {http.StatusRequestHeaderFieldsTooLarge, &http.Request{
			Method: "GET", Header: http.Header{"X-Big": {strings.Repeat("x", 2*httpapi.MaxHeader)}}, URL: &url.URL{Path: "/v1/lookup/web"}}},
		"a body that is too large": {http.StatusRequestEntityTooLarge, &http.Request{
			Method: "PUT", URL: &url.URL{Path: "/v1/services/web/instances/big"}, Header: http.Header{"Content-Type": {"application/json"}},
			Body: io.NopCloser(strings.NewReader(`{"meta":{"k":"` + strings.Repeat("x", api.MaxBody) + `"}}`))}},
	} {
		t.Run(name, func(t *testing.T) {
			c.request.URL.Scheme, c.request.URL.Host = "http", address
			resp, err := http.DefaultClient.Do(c.request)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != c.status {
				t.Errorf("%s, want %d", resp.Status, c.status)
			}
		})
	}
	one.find(t, "web", "web-1")
}
