package fastpath

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
	"testing"
)

const wholeRequest = "GET /v1/lookup/web HTTP/1.1\r\nHost: localhost\r\n\r\n"

func TestParsePlainRequest(t *testing.T) {
	t.Parallel()
	known := []string{
		"Host: localhost:3472",
		"host: 127.0.0.1\r\nconnection: keep-alive\r\naccept: */*\r\naccept-language: *\r\nuser-agent: node\r\naccept-encoding: gzip, deflate",
		"Host: localhost\r\nUser-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip",
		"Host: localhost\r\nAccept: text/plain",
		"Host: localhost\r\nAccept: application/json, text/plain, */*",
		"Host: localhost\r\nIf-None-Match: W/\"a\", \"b\"",
	}
	for _, headers := range known {
		request := "GET /v1/lookup/web HTTP/1.1\r\n" + headers + "\r\n\r\n"
		if _, n := parsePlainRequest([]byte(request + wholeRequest)); n != len(request) {
			t.Errorf("%q: %d of %d bytes", request, n, len(request))
		}
		for short := range len(request) - 1 {
			if _, n := parsePlainRequest([]byte(request[:short])); n != 0 {
				t.Errorf("%q: %d bytes of less than a request", request[:short], n)
			}
		}
	}
}

func TestParseLeavesTheRest(t *testing.T) {
	t.Parallel()
	for _, request := range []string{
		"POST /v1/lookup/web HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET /v1/lookup/web HTTP/1.0\r\nHost: localhost\r\n\r\n",
		"GET /v1/lookup/web?index=1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET /v1/lookup/w%65b HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET v1/lookup/web HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET http://localhost/v1/lookup/web HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET /v1/kv/app//a HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET /v1/kv/app/../a HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET  /v1/lookup/web HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET /v1/lookup/web HTTP/1.1\r\n\r\n",
		"GET /v1/lookup/web HTTP/1.1\nHost: localhost\n\n",
		"GET /v1/lookup/web HTTP/1.1\r\nHost:\r\n\r\n",
		"GET /v1/lookup/web HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
		"GET /v1/lookup/web HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n",
		"GET /v1/lookup/web HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\n\r\n",
		"GET /v1/lookup/web HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx",
		"GET /v1/lookup/web HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"GET /v1/lookup/web HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
		"GET /v1/lookup/web HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
		"GET /v1/lookup/web HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\r\n",
		"GET /v1/lookup/web HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n",
		"GET /v1/lookup/web HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nAccept: text/plain\r\n\r\n",
		"GET /v1/lookup/web HTTP/1.1\r\nHost: localhost\r\nUser-Agent: a\x00b\r\n\r\n",
		"GET /v1/lookup/web HTTP/1.1\r\nHost: localhost\r\nUser-Agent: a\r\n b\r\n\r\n",
		"GET /v1/lookup/web HTTP/1.1\r\nHost : localhost\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"\x16\x03\x01\x02\x00", // TLS
	} {
		t.Run(request, func(t *testing.T) {
			if r, n := parsePlainRequest([]byte(request)); n != 0 {
				t.Errorf("%q: %d bytes, %+v", request, n, r)
			}
		})
	}
}

// trailing returns the slash at the end of a path, which path.Clean cuts off.
func trailing(p string) string {
	if len(p) > 1 && strings.HasSuffix(p, "/") {
		return "/"
	}
	return ""
}

// Each request that is parsed means the same to net/http, to its last byte.
func FuzzParsePlainRequest(f *testing.F) {
	f.Add([]byte(wholeRequest))
	f.Add([]byte("GET /v1/lookup/v2.web HTTP/1.1\r\nhost: [::1]:3472\r\nAccept: text/plain\r\nConnection: keep-alive\r\nIf-None-Match: \"x\"\r\n\r\nGET"))
	f.Add([]byte("GET /v1/lookup/web HTTP/1.1\r\nHost: a\r\nAccept: application/json, text/plain, */*\r\n\r\n"))
	f.Add([]byte("GET /v1/lookup/web HTTP/1.1\r\nHost: a\r\nUser-Agent: x\r\n y\r\nContent-Length: 3\r\n\r\nabc"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		got, n := parsePlainRequest(sent)
		if n == 0 {
			return
		}
		b := bytes.NewReader(sent[:n])
		want, err := http.ReadRequest(bufio.NewReader(b))
		if err != nil {
			t.Fatalf("%q: net/http has %v", sent, err)
		}
		if rest, err := io.ReadAll(want.Body); err != nil || len(rest) > 0 || b.Len() > 0 {
			t.Errorf("%q: a body of %q, %v", sent, rest, err)
		}
		if want.Method != "GET" || want.RequestURI != string(got.path) || want.URL.Path != want.RequestURI || want.URL.Path != path.Clean(want.URL.Path)+trailing(want.URL.Path) ||
			want.Host != string(got.host) || want.Close || want.ContentLength != 0 || want.TransferEncoding != nil {
			t.Errorf("%q: %+v, to net/http %+v", sent, got, want)
		}
		if accept := want.Header["Accept"]; len(accept) > 1 || len(accept) == 1 && !isPlainAccept([]byte(accept[0])) ||
			slices.Equal(accept, []string{"text/plain"}) != got.wantsText() || strings.Join(want.Header["If-None-Match"], "|") != string(got.ifNoneMatch) {
			t.Errorf("%q: %+v, to net/http %v", sent, got, want.Header)
		}
		if want.Header["Origin"] != nil || want.Header["Sec-Fetch-Site"] != nil || http.NewCrossOriginProtection().Check(want) != nil {
			t.Errorf("%q is from another origin", sent)
		}
	})
}
