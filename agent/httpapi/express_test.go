package httpapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"disc/agent/api"
)

// exchange sends a request on a connection and reads the answer.
func exchange(t *testing.T, conn net.Conn, answers *bufio.Reader, request string) answer {
	t.Helper()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	return read(t, answers)
}

func read(t *testing.T, answers *bufio.Reader) answer {
	t.Helper()
	resp, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp, string(body)}
}

func open(t *testing.T, s *server) (net.Conn, *bufio.Reader) {
	conn := dial(t, s)
	return conn, bufio.NewReader(conn)
}

// isExpress reports whether so many connections are answered without net/http.
func isExpress(x *express, n int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.open) == n
}

// oneKV has one item.
type oneKV struct {
	quietKV
	item api.KVItem
	view KVFreshness
}

func (k *oneKV) GetCached(key string) (api.KVItem, KVFreshness, bool) {
	return k.item, k.view, key == k.item.Key
}

func (k *oneKV) Get(context.Context, string, api.KVRead) (api.KVItem, KVFreshness, error) {
	return k.item, k.view, nil
}

// What is answered without net/http is what net/http answers.
func TestExpressAnswersAsNetHTTPDoes(t *testing.T) {
	f := withWebs(1)
	values := oneKV{item: api.KVItem{Key: "app/K_1.x", Value: []byte("\x00 1\r\n"), Revision: 7}, view: KVFreshness{Revision: 9, Epoch: "e1", Index: 7, Age: time.Second}}
	s := serve(t, f.api(t, Options{KV: &values}))
	express, fromExpress := open(t, s)
	standard, fromStandard := open(t, s)
	for _, path := range []string{"/v1/lookup/web", "/v1/kv/app/K_1.x"} {
		line := "GET " + path + " HTTP/1.1\r\nHost: localhost\r\n"
		if _, n := (&client{api: s.api}).answer([]byte(line+"\r\n"), time.Now()); n == 0 {
			t.Errorf("%s is left to net/http", path)
		}
		etag := exchange(t, express, fromExpress, line+"\r\n").Header.Get("Etag")
		for _, stale := range []bool{false, true} {
			f.update(func() { f.view.Stale, values.view.Stale = stale, stale })
			for _, headers := range []string{"", "Accept: text/plain\r\n", "If-None-Match: " + etag + "\r\n", "If-None-Match: \"other\"\r\n"} {
				got := exchange(t, express, fromExpress, line+headers+"\r\n")
				want := exchange(t, standard, fromStandard, line+headers+"X-Other: makes it net/http's\r\n\r\n")
				got.Header.Del("Date")
				want.Header.Del("Date")
				if got.Status != want.Status || got.body != want.body || !maps.EqualFunc(got.Header, want.Header, slices.Equal) {
					t.Errorf("%s, stale %v, %q: %s %v %s; of net/http %s %v %s", path, stale, headers, got.Status, got.Header, got.body, want.Status, want.Header, want.body)
				}
			}
		}
	}
}

func TestExpressTellsTheTime(t *testing.T) {
	s := serve(t, withWebs(1).api(t, Options{}))
	conn, answers := open(t, s)
	got := exchange(t, conn, answers, wholeRequest)
	at, err := http.ParseTime(got.Header.Get("Date"))
	if err != nil || time.Since(at).Abs() > time.Minute {
		t.Errorf("date %q, %v", got.Header.Get("Date"), err)
	}
}

// A connection goes over to net/http with the first request that is no plain lookup, and
// loses nothing: also requests that were sent before the answers came, and halves of one.
func TestExpressHandsOver(t *testing.T) {
	s := serve(t, withWebs(2).api(t, Options{}))
	for name, sent := range map[string][]string{
		"at once":   {"GET /v1/lookup/web?status=any HTTP/1.1\r\nHost: localhost\r\n\r\n"},
		"later":     {wholeRequest, wholeRequest, "GET /v1/nodes HTTP/1.1\r\nHost: localhost\r\n\r\n", wholeRequest},
		"pipelined": {wholeRequest + wholeRequest + "GET /v1/lookup/web HTTP/1.1\r\nhost: localhost\r\nX: y\r\n\r\n" + wholeRequest},
		"in halves": {wholeRequest + wholeRequest[:30], wholeRequest[30:]},
		"no key":    {"GET /v1/kv/app/nosuch HTTP/1.1\r\nHost: localhost\r\n\r\n", wholeRequest},
		"unknown":   {strings.Replace(wholeRequest, "web", "nosuch", 1), wholeRequest},
	} {
		conn, answers := open(t, s)
		for _, part := range sent {
			if _, err := io.WriteString(conn, part); err != nil {
				t.Fatal(err)
			}
		}
		for range strings.Count(strings.Join(sent, ""), "HTTP/1.1") {
			want := 200
			if got := read(t, answers); got.StatusCode != want && !((name == "unknown" || name == "no key") && got.StatusCode == 404) {
				t.Errorf("%s: %s %s", name, got.Status, got.body)
			}
		}
	}
}

func TestExpressKeepsTheGuard(t *testing.T) {
	s := serve(t, withWebs(1).api(t, Options{}))
	for headers, status := range map[string]int{
		"Host: localhost":                             200,
		"Host: evil.example":                          421,
		"Host: local host":                            400,
		"Host: localhost\r\nOrigin: http://evil.test": 403,
	} {
		conn, answers := open(t, s)
		exchange(t, conn, answers, wholeRequest).want(t, 200) // once allowed is not for ever
		exchange(t, conn, answers, "GET /v1/lookup/web HTTP/1.1\r\n"+headers+"\r\n\r\n").want(t, status)
	}
}

// Waiting connections end with the server, and so do those whose reader does not read.
func TestExpressEndsWithTheServer(t *testing.T) {
	a := withWebs(100).api(t, Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := newExpress(a, l)
	ran := make(chan struct{})
	go func() { x.run(); close(ran) }()
	waiting, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	if _, err := io.WriteString(waiting, wholeRequest); err != nil {
		t.Fatal(err)
	}
	read(t, bufio.NewReader(waiting))
	deaf, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	if err := deaf.SetWriteDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	sent := 0
	for range 100 { // far less than its own buffers take, far more than those of the answers
		n, err := io.WriteString(deaf, strings.Repeat(wholeRequest, 10))
		if sent += n; err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "both connections", func() bool { return isExpress(x, 2) })
	if err := x.Close(); err != nil {
		t.Error(err)
	}
	<-ran
	eventually(t, "the end of the waiting one", func() bool { return isExpress(x, 1) })
	if _, err := waiting.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the waiting connection: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	x.wait(ctx)
	if !isExpress(x, 0) {
		t.Error("the deaf one is still there")
	}
	if _, err := x.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accepts after its end: %v", err)
	}
}

// A reader that does not read is dropped.
func TestExpressDropsTheDeaf(t *testing.T) {
	a := withWebs(100).api(t, Options{})
	a.times.write = 100 * time.Millisecond
	s := serve(t, a)
	conn := dial(t, s)
	for {
		if _, err := io.WriteString(conn, strings.Repeat(wholeRequest, 10)); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection stays open")
			}
			return
		}
	}
}

func TestExpressAnswerAllocatesNothing(t *testing.T) {
	c := client{api: withWebs(5).api(t, Options{}), local: &net.TCPAddr{}}
	request := []byte(wholeRequest)
	answer := func() {
		if _, n := c.answer(request, time.Now()); n != len(request) {
			t.Fatal("not answered")
		}
	}
	for range 1000 { // until all orders are made
		answer()
	}
	if allocations := testing.AllocsPerRun(1000, answer); allocations > 0 {
		t.Errorf("%v allocations a lookup", allocations)
	}
}

func BenchmarkExpressAnswer(b *testing.B) {
	c := client{api: withWebs(10).api(b, Options{}), local: &net.TCPAddr{}}
	request := []byte(wholeRequest)
	b.ReportAllocs()
	for b.Loop() {
		if _, n := c.answer(request, time.Now()); n == 0 {
			b.Fatal("not answered")
		}
	}
}

// BenchmarkExpress is a lookup over a socket, from the client's write to its read.
func BenchmarkExpress(b *testing.B) {
	for name, header := range map[string]string{"express": "", "net/http": "X-Other: y\r\n"} {
		b.Run(name, func(b *testing.B) {
			s := serve(b, withWebs(10).api(b, Options{}))
			conn, err := net.Dial("tcp", s.address)
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			request := fmt.Sprintf("GET /v1/lookup/web HTTP/1.1\r\nHost: localhost\r\n%s\r\n", header)
			in := make([]byte, 64<<10)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := io.WriteString(conn, request); err != nil {
					b.Fatal(err)
				}
				if _, err := conn.Read(in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
