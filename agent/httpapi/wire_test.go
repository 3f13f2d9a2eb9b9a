package httpapi

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"disc/agent/api"
	"disc/agent/httpapi/fastpath"
)

var dateLine = regexp.MustCompile("Date: [^\r]*")

// wire returns the bytes of a server's answer to a request, without the date.
func wire(t *testing.T, address, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	var sent bytes.Buffer
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(io.TeeReader(conn, &sent)), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	return dateLine.ReplaceAllString(sent.String(), "Date")
}

// The answer to each request is that of net/http, byte for byte.
func TestFastPathIsNetHTTPOnTheWire(t *testing.T) {
	values := fixedKV{view: KVFreshness{Revision: 9, Epoch: "e1", Index: 7, Age: time.Second}}
	a := withWebs(1).api(t, Options{}, func(b *Backends) { b.KV = &values })
	s, standard := serve(t, a), a.NewServer()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- standard.Serve(l) }()
	defer func() { standard.Close(); <-served }()
	for _, value := range []string{"", "\x00 1\r\n", strings.Repeat("x", fastpath.MaxBody), strings.Repeat("x", fastpath.MaxBody+1)} {
		values.item = api.KVItem{Key: "app/K_1.x", Value: []byte(value), Revision: 7}
		for _, path := range []string{"/v1/lookup/web", "/v1/kv/app/K_1.x", "/v1/lookup/WEB", "/v1/lookup/web/", "/v1/lookup/", "/v1/kv/", "/v1/kv/app/", "/v1/kv/app/K_1.x/", "/v1/lookup/web?", "/v1/lookup/w%65b", "http://localhost/v1/lookup/web"} {
			for _, line := range []string{"GET " + path + " HTTP/1.1", "GET " + path + " HTTP/1.0", "HEAD " + path + " HTTP/1.1"} {
				for _, headers := range []string{
					"Host: localhost", "host: LOCALHOST:1", "Host: [::1]:3", "Host: evil.example", "Host: ", "X: y", "Host: localhost\r\nhost: localhost",
					"Host: localhost\r\nConnection: close", "Host: localhost\r\nAccept: text/plain", "Host: localhost\r\nUser-Agent: ", "Host: localhost\r\nContent-Length: 2",
					"Host: localhost\r\nIf-None-Match: *", "Host: localhost\r\nIf-None-Match: \"x\", W/" + api.KVTag(7), "Host: localhost\r\nSec-Fetch-Site: cross-site",
				} {
					request := line + "\r\n" + headers + "\r\n\r\n"
					if strings.Contains(headers, "Content-Length") {
						request += "ab"
					}
					if got, want := wire(t, s.address, request), wire(t, l.Addr().String(), request); got != want {
						t.Errorf("%q: %q; of net/http %q", request, got, want)
					}
				}
			}
		}
	}
}
