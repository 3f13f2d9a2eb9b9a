package httpapi

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

func TestHosts(t *testing.T) {
	a := withWebs(1).api(t, Options{AllowHosts: []string{"agent.example", "10.9.9.9:3472", "[2001:db8::9]"}})
	for host, want := range map[string]bool{
		"localhost": true, "localhost:3472": true, "LOCALHOST:1": true, "localhost.": true,
		"127.0.0.1": true, "127.0.0.1:3472": true, "127.9.8.7:1": true, "[::1]:3472": true, "[::1]": true,
		"agent.example": true, "Agent.Example:80": true, "10.9.9.9": true, "[2001:db8::9]:1": true,
		"192.0.2.1:3472": true, // the address that the request came in on
		"192.0.2.2:3472": false, "evil.example": false, "localhost.evil.example": false, "127.0.0.1.evil.example": false,
		"":      true, // of HTTP/1.0; a browser sends one
		":3472": false, "0x7f.1": false, "[": false,
	} {
		t.Run(host, func(t *testing.T) {
			if got := a.hostAllowed(host, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 3472}); got != want {
				t.Errorf("host %q: %v", host, got)
			}
		})
	}
}

// Programs make up a host for the Unix socket. A page whose domain leads to a port that is forwarded
// to the socket must not be of the same origin as the agent.
func TestHostsOverTheSocket(t *testing.T) {
	a := withWebs(1).api(t, Options{AllowHosts: []string{"agent.example"}})
	for host, want := range map[string]bool{
		"": true, "localhost": true, "disc": true, "unix": true, "_": true, "localhost:3472": true, "127.0.0.1:40001": true,
		"192.0.2.2:40001": true, "[2001:db8::1]:40001": true, // an address leads to no other
		"run%2Fdisc%2Fdisc.sock": true, "/run/disc/disc.sock": true, // gRPC's
		"agent.example:40001": true,
		"evil.example":        false, "evil.example:40001": false, "EVIL.example.:40001": false, "127.0.0.1.evil.example": false, "localhost.evil.example:1": false,
	} {
		t.Run(host, func(t *testing.T) {
			if got := a.hostAllowed(host, &net.UnixAddr{Name: "s", Net: "unix"}); got != want {
				t.Errorf("host %q: %v", host, got)
			}
		})
	}
}

func TestForeignHostsAreMisdirected(t *testing.T) {
	s := serve(t, withWebs(1).api(t, Options{}))
	for _, path := range []string{"/v1/lookup/web", "/v1/services", "/healthz", "/"} {
		s.do("GET "+path, "", "Host: evil.example").want(t, 421, "http.allow_hosts", "evil.example")
	}
}

// TestRequestsWithoutHost are those of HTTP/1.0, as of load balancers and check_http.
func TestRequestsWithoutHost(t *testing.T) {
	s := serve(t, withWebs(1).api(t, Options{}))
	ask := func(request string) string {
		conn := dial(t, s)
		fmt.Fprint(conn, request)
		b, err := io.ReadAll(conn)
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
	for _, path := range []string{"/v1/lookup/web", "/v1/services", "/healthz", "/metrics"} {
		if got := ask("GET " + path + " HTTP/1.0\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.0 200") {
			t.Errorf("%s: %.300q", path, got)
		}
	}
	if got := ask("GET /v1/services HTTP/1.0\r\nOrigin: null\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.0 403") {
		t.Errorf("with an origin: %.300q", got)
	}
}

func TestCrossOriginRequestsAreRefused(t *testing.T) {
	s := serve(t, withWebs(1).api(t, Options{}))
	mine := "Origin: " + s.BaseURL
	for _, c := range []struct {
		request string
		headers []string
		status  int
	}{
		{"GET /v1/lookup/web", []string{mine}, 200},
		{"GET /v1/lookup/web", []string{"Origin: http://evil.example"}, 403},
		{"GET /v1/services", []string{"Origin: null"}, 403},
		{"GET /v1/services", []string{"Sec-Fetch-Site: same-origin"}, 200},
		{"GET /v1/services", []string{"Sec-Fetch-Site: none"}, 200},
		{"GET /v1/services", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"}, 403},
		{"GET /v1/services", []string{"Sec-Fetch-Site: same-site"}, 403},
		{"GET /v1/services", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"}, 200},
		{"PUT /v1/services/web/instances/w", []string{mine, "Sec-Fetch-Site: same-origin"}, 201},
		{"PUT /v1/services/web/instances/w", []string{"Origin: http://evil.example"}, 403},
		{"PUT /v1/services/web/instances/w", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"}, 403},
	} {
		t.Run(fmt.Sprint(c.request, c.headers), func(t *testing.T) {
			s := s.in(t)
			s.do(c.request, "{}", c.headers...).want(t, c.status)
		})
	}
}

func TestHostname(t *testing.T) {
	for in, want := range map[string]string{
		"a": "a", "a:1": "a", "[::1]:1": "::1", "[::1]": "::1", "::1": "::1", "": "", "[::1": "::1", "a:b:c": "a:b:c",
	} {
		t.Run(in, func(t *testing.T) {
			if got := hostname(in); got != want {
				t.Errorf("hostname %q is %q, want %q", in, got, want)
			}
		})
	}
}
