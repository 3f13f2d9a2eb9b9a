package httpapi

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"disc/agent/answercache"
	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/retry/retrytest"
)

// Blocking queries and watches do not take the places of short requests, nor of grants.
func TestStreamsAreBounded(t *testing.T) {
	s := serve(t, withWebs(1).api(t, Options{Connections: 8}))
	const wait = "GET /v1/lookup/web?index=1&wait=10m HTTP/1.1\r\nHost: localhost\r\n\r\n"
	for range 4 {
		if _, err := io.WriteString(dial(t, s), wait); err != nil {
			t.Fatal(err)
		}
	}
	streams(t, s, "wait", 4)
	for _, request := range []string{"GET /v1/lookup/web?index=1&wait=10m", "GET /v1/services?index=1&wait=10m", "GET /v1/watch", "GET /v1/kv/?recurse&index=1&wait=1m"} {
		got := s.want(request, "", 503, "the agent has 4 blocking queries and watches, the most that it allows")
		if got.Header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", request)
		}
	}
	for range 2 {
		held, err := s.Hold(t.Context(), discovery.Registration{Service: "held", ID: "h-1"})
		if err != nil {
			t.Fatal(err)
		}
		defer held.Close()
	}
	if _, err := s.Hold(t.Context(), discovery.Registration{Service: "held", ID: "h-3"}); !errors.Is(err, discovery.ErrUnavailable) {
		t.Errorf("a third open registration: %v", err)
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/v1/lookup/web", "/v1/lookup/web?zone=a", "/v1/lookup/web?index=0&wait=10m"} {
		s.want("GET "+path, "", 200)
	}
	s.api.EndStreams()
	streams(t, s, "wait", 0)
	if open := s.api.reads.open.Load(); open != 0 {
		t.Errorf("%d are counted as open at the end", open)
	}
}

// A new connection takes the place of the one that is idle or slow for the longest time. Held
// ones keep their places.
func TestConnectionsGiveWay(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const limit = 4
	a := withWebs(1).api(t, Options{Connections: limit})
	limited := LimitListener(l, limit).(*connections)
	limited.grace = 0
	s := serveListener(t, a, limited, "http://"+l.Addr().String())
	held := dial(t, s)
	fmt.Fprint(held, "GET /v1/lookup/web?index=1&wait=10m HTTP/1.1\r\nHost: localhost\r\n\r\n")
	streams(t, s, "wait", 1)
	var slow []net.Conn
	for _, begin := range []string{"", "GET /v1/lo", "PUT /v1/services/a/instances/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"} {
		conn := dial(t, s)
		fmt.Fprint(conn, begin)
		slow = append(slow, conn)
	}
	retrytest.Eventually(t, "four connections are open", func() bool {
		limited.mu.Lock()
		defer limited.mu.Unlock()
		return len(limited.open) == limit
	})
	for n, conn := range slow {
		fresh := dial(t, s)
		exchange(t, fresh, bufio.NewReader(fresh), "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if b, _ := io.ReadAll(conn); len(b) > 0 && !strings.Contains(string(b), "400") {
			t.Errorf("slow connection %d got %q", n, b)
		}
	}
	if n := openStreams(t, a, "wait"); n != 1 {
		t.Errorf("%d blocking queries are open, want 1", n)
	}
}

// Each connection has a moment for its request, however fast others come.
func TestConnectionsHaveTime(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	limited := LimitListener(l, 2).(*connections)
	limited.grace = time.Hour
	t.Cleanup(func() { limited.Close() })
	accepted := make(chan error)
	accept := func() {
		_, err := limited.Accept()
		accepted <- err
	}

	for range 3 {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()

		go accept()
	}
	for range 2 {
		if err := <-accepted; err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-accepted:
		t.Fatalf("a third connection is accepted: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	limited.mu.Lock()
	var one *connection
	for one = range limited.open {
		break
	}
	limited.mu.Unlock()
	one.Close()
	if err := <-accepted; err != nil {
		t.Errorf("in a place that was freed: %v", err)
	}
	go accept()
	if conn, err := net.Dial("tcp", l.Addr().String()); err == nil {
		defer conn.Close()
	}
	limited.Close()
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// A body that no route wants, or from a caller without the token, is not waited for.
func TestUnwantedBodiesAreNotRead(t *testing.T) {
	for request, status := range map[string]int{
		"PUT /v1/services/web/instances/web-1": 401,
		"PUT /v1/kv/app/a":                     401,
		"POST /v1/kv":                          401,
		"POST /nosuch":                         404,
		"GET /v1/lookup/web":                   200,
		"POST /dns-query":                      415,
	} {
		t.Run(request, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := servePipes(t, withWebs(1).api(t, Options{Access: withToken("s3cret")}))()
				fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n{", request)
				began := time.Now()
				got, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); got.StatusCode != status || !got.Close || took != 0 {
					t.Errorf("%s after %v, closes %v; want %d at once, and closed", got.Status, took, got.Close, status)
				}
				_, _ = io.Copy(io.Discard, conn)
				if took := time.Since(began); took > refusedBodyTime {
					t.Errorf("the connection was open for %v", took)
				}
			})
		})
	}
}

// The connection goes on after a small body that no route reads.
func TestSmallBodiesKeepTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := servePipes(t, withWebs(1).api(t, Options{}))()
		r := bufio.NewReader(conn)
		for range 2 {
			got := exchange(t, conn, r, "GET /v1/services HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
			if got.StatusCode != 200 || got.Close {
				t.Fatalf("%s, closes %v", got.Status, got.Close)
			}
		}
		began := time.Now()
		got := exchange(t, conn, r, "GET /v1/services HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{")
		if took := time.Since(began); !got.Close || took != refusedBodyTime {
			t.Errorf("a body that does not come in: closes %v after %v", got.Close, took)
		}
	})
}

// Over HTTP/1 the server notices that the caller of a request is gone when it has read the body.
func TestWaitsTakeNoBody(t *testing.T) {
	s := serve(t, withWebs(1).api(t, Options{}))
	for _, request := range []string{"GET /v1/lookup/web?index=1&wait=10m", "GET /v1/watch", "GET /v1/kv/?recurse&index=1&wait=1m"} {
		s.want(request, "{}", 400, "takes no body")
	}
}

// A lock or claim that is held or waited for keeps no room for its body.
func TestHeldRequestsKeepNoRoom(t *testing.T) {
	for _, path := range []string{"/v1/locks/l?hold", "/v1/claims/web?hold"} {
		t.Run(path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				used := int64(-1)
				var a *API
				g := &granter{granted: func() { used = a.openBodies.small.used.Load() + a.writeBodies.small.used.Load() }}
				a = withWebs(1).api(t, Options{}, func(b *Backends) { b.Locks, b.Claims = g, g })
				conn := servePipes(t, a)()
				fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", path)
				if got, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || got.StatusCode != 201 {
					t.Fatal(got, err)
				}
				if used != 0 {
					t.Errorf("%d bytes are in use", used)
				}
				conn.Close()
				synctest.Wait()
			})
		})
	}
}

// The errors of a body are told as they are.
func TestLockTellsWhyABodyIsRefused(t *testing.T) {
	s := serve(t, withWebs(1).api(t, Options{}))
	s.want("POST /v1/locks/l", "{}", 400, "a lock takes no body")
	s.want("POST /v1/locks/l", strings.Repeat("x", smallBody+1), 413, "larger than")
}

// Each route has a limit of its own, which is known before the body is read.
func TestBodiesAreLimitedByRoute(t *testing.T) {
	for request, limit := range map[string]int64{
		"POST /dns-query":                                 65535,
		"POST /v3/discovery:endpoints":                    api.MaxBody,
		"PUT /v1/services/web/instances/web-1":            api.MaxBody,
		"PUT /v1/services/web/instances/web-1/checks/c":   api.MaxBody,
		"PUT /v1/services/web/instances/web-1/load":       smallBody,
		"PATCH /v1/services/web/instances/web-1/override": api.MaxBody,
		"PUT /v1/kv/app/a":                                api.MaxKVBody,
		"POST /v1/kv":                                     api.MaxKVBody,
		"PUT /v1/limits/l":                                smallBody,
		"POST /v1/claims/web":                             smallBody,
	} {
		t.Run(request, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := servePipes(t, withWebs(1).api(t, Options{Access: withToken("s3cret")}))()
				contentType := api.TypeDNS
				if strings.HasPrefix(request, "PATCH") {
					contentType = api.TypeMergePatch
				}
				fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer s3cret\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", request, contentType, limit+1)
				got, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				b, _ := io.ReadAll(got.Body)
				if want := fmt.Sprintf("larger than %d bytes", limit); got.StatusCode != 413 || !strings.Contains(string(b), want) {
					t.Errorf("%s: %s, want 413 and %q", got.Status, b, want)
				}
			})
		})
	}
}

// Unfinished bodies take their room from bodies of their kind alone, and give it back.
func TestBodiesInFlightAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := withWebs(1).api(t, Options{})
		a.openBodies = newBodyBudget(4 * 64 << 10)
		open := servePipes(t, a)
		post := func(path string, length int) (net.Conn, *bufio.Reader) {
			conn := open()
			fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/dns-message\r\nContent-Length: %d\r\n\r\n", path, length)
			return conn, bufio.NewReader(conn)
		}
		large := func() (net.Conn, *bufio.Reader) {
			conn, r := post("POST /dns-query", 60<<10)
			go io.WriteString(conn, strings.Repeat("x", 60<<10-1))
			return conn, r
		}
		var unfinished []net.Conn
		for range 3 {
			conn, _ := large()
			unfinished = append(unfinished, conn)
			synctest.Wait()
		}
		before := a.openBodies.large.used.Load()
		conn, _ := post("POST /dns-query", 60<<10)
		unfinished = append(unfinished, conn)
		synctest.Wait()
		if took := a.openBodies.large.used.Load() - before; took == 0 || took > 2<<10 {
			t.Errorf("a body of which nothing came in takes %d bytes", took)
		}
		refused := func() bool {
			_, r := large()
			got := read(t, r)
			return got.StatusCode == 503 && strings.Contains(got.body, "under way") && got.Header.Get("Retry-After") != ""
		}
		if !refused() {
			t.Error("a fourth large body is accepted")
		}
		for _, path := range []string{"POST /dns-query", "PUT /v1/services/web/instances/w"} {
			conn, r := post(path, 3)
			fmt.Fprint(conn, "abc")
			if got := read(t, r); strings.Contains(got.body, "under way") {
				t.Errorf("%s: a small body is refused: %s", path, got.body)
			}
		}
		for _, conn := range unfinished {
			conn.Close()
		}
		synctest.Wait()
		for _, part := range []*budget{&a.openBodies.small, &a.openBodies.large, &a.writeBodies.small} {
			if used := part.used.Load(); used != 0 {
				t.Errorf("%d bytes are in use at the end", used)
			}
		}
	})
}

// Answers that callers do not read are bounded; small ones pass.
func TestAnswersInFlightAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := withWebs(200).api(t, Options{})
		a.answers.size = smallBody
		open := servePipes(t, a)
		ask := func(path string) *bufio.Reader {
			conn := open()
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path)
			return bufio.NewReader(conn)
		}
		unread := ask("/v1/services/web") // nobody reads it yet
		synctest.Wait()
		for path, status := range map[string]int{"/v1/services/web": 503, "/v1/watch": 503, "/v1/services": 200, "/healthz": 200} {
			got, err := http.ReadResponse(ask(path), nil)
			if err != nil || got.StatusCode != status {
				t.Errorf("%s: %v, %v, want %d", path, got, err, status)
			}
		}
		if got, err := http.ReadResponse(unread, nil); err != nil || got.StatusCode != 200 {
			t.Errorf("the first: %v, %v", got, err)
		} else if _, err := io.Copy(io.Discard, got.Body); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if used := a.answers.used.Load(); used != 0 {
			t.Errorf("%d bytes are in use at the end", used)
		}
	})
}

// Callers who read the same answer to a plain lookup take its room once.
func TestPlainLookupsInFlightAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := withWebs(250)
		a := f.api(t, Options{})
		open := servePipes(t, a)
		ask := func() *bufio.Reader {
			conn := open()
			fmt.Fprint(conn, plainRequest)
			synctest.Wait()
			return bufio.NewReader(conn)
		}
		a.answers.size = smallBody
		var unread []*bufio.Reader
		for range 3 * answercache.MaxOrders { // some of the same order
			unread = append(unread, ask())
		}
		if used := a.answers.used.Load(); used < smallBody {
			t.Fatalf("%d bytes are in use", used)
		}
		answered := 0
		for _, r := range unread {
			if got := read(t, r); got.StatusCode == 200 {
				answered++
			} else if got.StatusCode != 503 || !strings.Contains(got.body, "have not read yet") {
				t.Errorf("%s: %s", got.Status, got.body)
			}
		}
		if answered == 0 || answered == len(unread) {
			t.Errorf("%d of %d are answered, want those of one order", answered, len(unread))
		}
		synctest.Wait()
		if used := a.answers.used.Load(); used != 0 {
			t.Errorf("%d bytes are in use at the end", used)
		}
	})
}

// A blocking query over HTTP/2 may outlast the write timeout of the server.
func TestBlockingOverHTTP2OutlastsTheWriteTimeout(t *testing.T) {
	example := httptest.NewUnstartedServer(nil) // for its certificate
	example.EnableHTTP2 = true
	example.StartTLS()
	defer example.Close()
	config := example.TLS.Clone()
	synctest.Test(t, func(t *testing.T) {
		open := serveLimitedPipes(t, withWebs(1).api(t, Options{}), MaxConnections, func(l net.Listener) net.Listener { return tls.NewListener(l, config) })
		client := &http.Transport{ForceAttemptHTTP2: true, DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn := tls.Client(open(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
			return conn, conn.HandshakeContext(ctx)
		}}
		defer client.CloseIdleConnections()
		began := time.Now()
		request, err := http.NewRequestWithContext(t.Context(), "GET", "https://localhost/v1/lookup/web?index=1&wait=1m", nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := client.RoundTrip(request)
		if err != nil {
			t.Fatalf("after %v: %v", time.Since(began), err)
		}
		got.Body.Close()
		if took := time.Since(began); got.StatusCode != 200 || got.ProtoMajor != 2 || took != time.Minute {
			t.Errorf("%s %s after %v, want 200 after a minute", got.Proto, got.Status, took)
		}
	})
}

// A watch that has begun waits for room instead of ending.
func TestRunningStreamsWaitForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := withWebs(200)
		a := f.api(t, Options{})
		conn := servePipes(t, a)()
		fmt.Fprint(conn, "GET /v1/watch?service=web HTTP/1.1\r\nHost: localhost\r\n\r\n")
		got, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		lines := make(chan string)
		go func() {
			defer close(lines)
			s := bufio.NewScanner(got.Body)
			s.Buffer(nil, 1<<20)
			for s.Scan() {
				select {
				case lines <- s.Text():
				case <-t.Context().Done():
					return
				}
			}
		}()
		reset := func() {
			for line := range lines {
				if strings.HasPrefix(line, "data: {") {
					return
				}
			}
			t.Fatal("the stream ended before a reset")
		}
		reset()
		synctest.Wait()
		if !a.answers.acquire(maxAnswers) {
			t.Fatal("the first reset keeps its room")
		}
		f.lock.Lock()
		f.logFrom = math.MaxInt64 // so that the next event is a reset, too, and large
		f.lock.Unlock()
		f.put(web(1))
		synctest.Wait()
		time.AfterFunc(time.Hour, func() { a.answers.release(maxAnswers) })
		began := time.Now()
		reset()
		if took := time.Since(began); took != time.Hour {
			t.Errorf("the event came after %v, want an hour", took)
		}
	})
}

// A request that finds no place to compute its answer in waits for one, and not for ever.
func TestAnswersThatAreComputedAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := withWebs(1).api(t, Options{})
		for range cap(a.working) {
			a.working <- struct{}{}
		}
		open := servePipes(t, a)
		ask := func(path string) (status int, took time.Duration) {
			conn, began := open(), time.Now()
			got := exchange(t, conn, bufio.NewReader(conn), "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
			return got.StatusCode, time.Since(began)
		}
		if status, took := ask("/v1/services"); status != 503 || took != workTime {
			t.Errorf("%d after %v, want 503 after %v", status, took, workTime)
		}
		if status, took := ask("/v1/lookup/web"); status != 200 || took != 0 {
			t.Errorf("a plain lookup: %d after %v, want 200 at once", status, took)
		}
		a.queued.Add(maxQueued)
		if status, took := ask("/v1/services"); status != 503 || took != 0 {
			t.Errorf("%d after %v, want 503 at once while too many wait", status, took)
		}
		time.AfterFunc(time.Minute, func() { <-a.working })
		if status, took := ask("/v1/services?index=1&wait=1s"); status != 200 || took != time.Minute {
			t.Errorf("a blocking query: %d after %v, want 200 after a minute", status, took)
		}
		a.working <- struct{}{}
		a.queued.Add(-maxQueued)
		time.AfterFunc(time.Second, func() { <-a.working })
		if status, took := ask("/v1/services"); status != 200 || took != time.Second {
			t.Errorf("%d after %v, want 200 after a second", status, took)
		}
		if n := len(a.working); n != cap(a.working)-1 {
			t.Errorf("%d places are taken, want %d", n, cap(a.working)-1)
		}
	})
}

// The server tells each HTTP/2 connection how many streams it may open, and how much it may send
// unasked. Beyond the bound of all requests, only health is answered.
func TestHTTP2IsBounded(t *testing.T) {
	example := httptest.NewUnstartedServer(nil) // for its certificate
	example.EnableHTTP2 = true
	example.StartTLS()
	defer example.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := withWebs(1).api(t, Options{})
	s := serveListener(t, a, tls.NewListener(LimitListener(l, MaxConnections), example.TLS), "https://"+l.Addr().String())
	s.address = l.Addr().String()
	trusting := example.Client().Transport.(*http.Transport).TLSClientConfig
	conn, err := tls.Dial("tcp", s.address, &tls.Config{RootCAs: trusting.RootCAs, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	frame, err := framer.ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	settings := frame.(*http2.SettingsFrame)
	for id, want := range map[http2.SettingID]uint32{http2.SettingMaxConcurrentStreams: MaxStreams, http2.SettingInitialWindowSize: streamBuffer} {
		if got, ok := settings.Value(id); !ok || got != want {
			t.Errorf("%v %d, want %d", id, got, want)
		}
	}

	client := example.Client()
	defer client.CloseIdleConnections()
	a.requests.Store(maxRequests)
	for path, status := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 200, "/v1/lookup/web": 503, "/v1/services": 503} {
		got, err := client.Get(s.BaseURL + path)
		if err != nil {
			t.Fatal(err)
		}
		got.Body.Close()
		if got.StatusCode != status || got.ProtoMajor != 2 {
			t.Errorf("%s: %s %s, want %d", path, got.Proto, got.Status, status)
		}
	}
	// The client may have an answer before its handler has ended.
	retrytest.Eventually(t, "the requests have ended", func() bool {
		return a.requests.Load() == maxRequests && a.extraHealth.Load() == 0 && a.refused.Load() == 0
	})
	a.extraHealth.Store(maxExtraHealth)
	a.refused.Store(maxRefused)
	for _, path := range []string{"/healthz", "/v1/lookup/web"} {
		if got, err := client.Get(s.BaseURL + path); err == nil {
			got.Body.Close()
			t.Errorf("%s beyond all bounds: %s, want a reset", path, got.Status)
		}
	}
	a.extraHealth.Store(0)
	a.refused.Store(0)
	a.requests.Store(0)
}
