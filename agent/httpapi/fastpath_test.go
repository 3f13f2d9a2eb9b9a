package httpapi

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"disc/agent/api"
	"disc/agent/httpapi/fastpath"
	"disc/discovery/retry/retrytest"
)

const wholeRequest = "GET /v1/lookup/web HTTP/1.1\r\nHost: localhost\r\n\r\n"

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

// fixedKV has one item.
type fixedKV struct {
	emptyKV
	item api.KVItem
	view KVFreshness
}

func (k *fixedKV) GetCached(key string) (api.KVItem, KVFreshness, bool) {
	return k.item, k.view, key == k.item.Key
}

func (k *fixedKV) Get(context.Context, string, api.KVRead) (api.KVItem, KVFreshness, error) {
	return k.item, k.view, nil
}

// The fast path answers as net/http does.
func TestFastPathAnswersAsNetHTTPDoes(t *testing.T) {
	f := withWebs(1)
	values := fixedKV{item: api.KVItem{Key: "app/K_1.x", Value: []byte("\x00 1\r\n"), Revision: 7}, view: KVFreshness{Revision: 9, Epoch: "e1", Index: 7, Age: time.Second}}
	s := serve(t, f.api(t, Options{}, func(b *Backends) { b.KV = &values }))
	fast, fromFast := open(t, s)
	standard, fromStandard := open(t, s)
	for _, path := range []string{"/v1/lookup/web", "/v1/kv/app/K_1.x"} {
		line := "GET " + path + " HTTP/1.1\r\nHost: localhost\r\n"
		if _, n := fastpath.NewResponder(plainAnswerer{s.api}, nil).Respond([]byte(line+"\r\n"), time.Now()); n == 0 {
			t.Errorf("%s is left to net/http", path)
		}
		etag := exchange(t, fast, fromFast, line+"\r\n").Header.Get("Etag")
		for _, stale := range []bool{false, true} {
			f.update(func() { f.view.Stale, values.view.Stale = stale, stale })
			for _, headers := range []string{"", "Accept: text/plain\r\n", "If-None-Match: " + etag + "\r\n", "If-None-Match: \"other\"\r\n"} {
				got := exchange(t, fast, fromFast, line+headers+"\r\n")
				want := exchange(t, standard, fromStandard, line+headers+"X-Other: makes it net/http's\r\n\r\n")
				got.Header.Del("Date")
				want.Header.Del("Date")
				if nosniff := got.Header.Get("X-Content-Type-Options") == "nosniff"; nosniff != strings.HasPrefix(path, "/v1/kv/") {
					t.Errorf("a browser may take %s for what it is not: %v", path, !nosniff)
				}
				if got.Status != want.Status || got.body != want.body || !maps.EqualFunc(got.Header, want.Header, slices.Equal) {
					t.Errorf("%s, stale %v, %q: %s %v %s; of net/http %s %v %s", path, stale, headers, got.Status, got.Header, got.body, want.Status, want.Header, want.body)
				}
			}
		}
	}
}

func TestFastPathSendsTheDate(t *testing.T) {
	s := serve(t, withWebs(1).api(t, Options{}))
	conn, answers := open(t, s)
	got := exchange(t, conn, answers, wholeRequest)
	at, err := http.ParseTime(got.Header.Get("Date"))
	if err != nil || time.Since(at).Abs() > time.Minute {
		t.Errorf("date %q, %v", got.Header.Get("Date"), err)
	}
}

// A connection goes to net/http at the first request that the fast path does not answer. No
// request is lost: neither one that is sent before the last answer, nor half of one.
func TestFastPathHandsOver(t *testing.T) {
	s := serve(t, withWebs(2).api(t, Options{}))
	for name, sent := range map[string][]string{
		"at once":   {"GET /v1/lookup/web?status=any HTTP/1.1\r\nHost: localhost\r\n\r\n"},
		"later":     {wholeRequest, wholeRequest, "GET /v1/nodes HTTP/1.1\r\nHost: localhost\r\n\r\n", wholeRequest},
		"pipelined": {wholeRequest + wholeRequest + "GET /v1/lookup/web HTTP/1.1\r\nhost: localhost\r\nX: y\r\n\r\n" + wholeRequest},
		"in halves": {wholeRequest + wholeRequest[:30], wholeRequest[30:]},
		"no key":    {"GET /v1/kv/app/nosuch HTTP/1.1\r\nHost: localhost\r\n\r\n", wholeRequest},
		"unknown":   {strings.Replace(wholeRequest, "web", "nosuch", 1), wholeRequest},
	} {
		t.Run(name, func(t *testing.T) {
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
		})
	}
}

func TestFastPathChecksTheOrigin(t *testing.T) {
	s := serve(t, withWebs(1).api(t, Options{}))
	for headers, status := range map[string]int{
		"Host: localhost":                             200,
		"Host: evil.example":                          421,
		"Host: local host":                            400,
		"Host: localhost\r\nOrigin: http://evil.test": 403,
	} {
		t.Run(headers, func(t *testing.T) {
			conn, answers := open(t, s)
			exchange(t, conn, answers, wholeRequest).want(t, 200) // an allowed host does not allow the next
			exchange(t, conn, answers, "GET /v1/lookup/web HTTP/1.1\r\n"+headers+"\r\n\r\n").want(t, status)
		})
	}
}

// The connection of a caller that does not read is closed.
func TestFastPathDropsSlowReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := servePipes(t, withWebs(1).api(t, Options{}))()
		began := time.Now()
		for err := error(nil); err == nil; {
			_, err = io.WriteString(conn, wholeRequest)
		}
		if took := time.Since(began); took != writeTime {
			t.Errorf("the connection was open for %v, want %v", took, writeTime)
		}
	})
}

func TestFastPathAnswerAllocatesNothing(t *testing.T) {
	r := fastpath.NewResponder(plainAnswerer{withWebs(5).api(t, Options{})}, &net.TCPAddr{})
	request := []byte(wholeRequest)
	answer := func() {
		if _, n := r.Respond(request, time.Now()); n != len(request) {
			t.Fatal("not answered")
		}
	}
	for range 1000 { // until all orders are cached
		answer()
	}
	if allocations := retrytest.Allocations(1000, answer); allocations > 0 {
		t.Errorf("%v allocations a lookup", allocations)
	}
}

func BenchmarkFastPathAnswer(b *testing.B) {
	r := fastpath.NewResponder(plainAnswerer{withWebs(10).api(b, Options{})}, &net.TCPAddr{})
	request := []byte(wholeRequest)
	b.ReportAllocs()
	for b.Loop() {
		if _, n := r.Respond(request, time.Now()); n == 0 {
			b.Fatal("not answered")
		}
	}
}

// BenchmarkFastPath measures a lookup over a socket, from the client's write to its read.
func BenchmarkFastPath(b *testing.B) {
	for name, header := range map[string]string{"fastpath": "", "net/http": "X-Other: y\r\n"} {
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
