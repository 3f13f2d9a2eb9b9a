package e2e_test

import (
	"context"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"disc/discovery/devetcd"
	"disc/discovery/devetcd/etcdtest"
)

// TestCauses expects that whoever has no connection to etcd says why: the CLI, and an agent
// that starts, in its log and its answers.
func TestCauses(t *testing.T) {
	t.Parallel()
	ca, foreign := newAuthority(t), newAuthority(t)
	ca.issue("server", []net.IP{net.IPv4(127, 0, 0, 1)})
	foreign.issue("agent", nil)
	plain := "127.0.0.1:" + freePort(t)
	etcdtest.StartWith(t, devetcd.Options{Listen: plain})
	secure := etcdtest.StartWith(t, devetcd.Options{Listen: "127.0.0.1:0", TLS: ca.serverTLS()}).Endpoint()
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	refused := "127.0.0.1:" + freePort(t)
	for _, test := range []struct {
		name, endpoint, cause, next string
		settings                    map[string]string
	}{
		{"refused", refused, "connection refused", "is it running", nil},
		{"two refused", refused + ",127.0.0.1:1", "connection refused", "is it running", nil},
		{"no such host", "nowhere.invalid:2379", "lookup nowhere.invalid", "--endpoints", map[string]string{"DISC_ADVERTISE": "192.0.2.1"}},
		{"TLS to a server without", "https://" + plain, "the server ended the TLS handshake", "http://", nil},
		{"no TLS to a server with it", "http://" + secure, "the server ended the connection without an answer", "https://", nil},
		{"unknown authority", "https://" + secure, "x509: certificate signed by unknown authority", "--cacert", map[string]string{"DISC_CACERT": foreign.path("ca.pem")}},
		{"no client certificate", "https://" + secure, "tls: certificate required", "--cert and --key", map[string]string{"DISC_CACERT": ca.path("ca.pem")}},
		{"foreign client certificate", "https://" + secure, "certificate authority", "--cert and --key", map[string]string{
			"DISC_CACERT": ca.path("ca.pem"), "DISC_CERT": foreign.path("agent.pem"), "DISC_KEY": foreign.path("agent-key.pem")}},
		{"HTTP", web.Listener.Addr().String(), "the server speaks HTTP/1", "2379", nil},
		{"HTTP in place of TLS", "https://" + web.Listener.Addr().String(), "server gave HTTP response to HTTPS client", "http://", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newProgram(t, test.endpoint).ready(t)
			maps.Copy(p.env, test.settings)
			const dialTimeout = 5 * time.Second
			p.env["DISC_ETCD_DIAL_TIMEOUT"] = dialTimeout.String()
			explains := func(by, text string) {
				t.Helper()
				first, _, _ := strings.Cut(test.endpoint, ",")
				for _, want := range []string{first, test.cause, test.next} {
					if !strings.Contains(text, want) {
						t.Errorf("%s does not say %q:\n%s", by, want, text)
					}
				}
				for _, never := range []string{"deadline exceeded", "rpc error", "context canceled"} {
					if strings.Contains(text, never) {
						t.Errorf("%s says %q:\n%s", by, never, text)
					}
				}
			}
			for _, command := range [][]string{{"set", "web/one", "10.0.0.1:1"}, {"list"}, {"kv", "get", "a"}, {"kv", "set", "a", "b"}, {"watch"}, {"-v", "get", "web"}} {
				var code int
				var stdout, stderr string
				await(func() bool { // on a slow machine the time of a command may be over before that of its attempt to connect
					began := time.Now()
					code, stdout, stderr = p.run(t.Context(), command...)
					return strings.Contains(stderr, test.cause) || time.Since(began) < dialTimeout
				})
				if explains(strings.Join(command, " "), stderr); code != 1 || stdout != "" {
					t.Errorf("%v ended with %d:\n%s", command, code, stdout)
				}
			}

			ctx, stop := context.WithCancel(context.Background())
			log := make(chan string, 1)
			go func() {
				_, _, stderr := p.run(ctx, "agent")
				log <- stderr
			}()
			p.expect(t, 3, test.cause, "status")
			_, stdout, stderr := p.run(t.Context(), "status")
			explains("the table of status", stdout)
			explains("readiness", stderr)
			for _, command := range [][]string{{"lookup", "web"}, {"list", "web"}} {
				_, _, stderr := p.run(t.Context(), command...)
				explains(strings.Join(command, " "), stderr)
			}
			stop()
			explains("the log", <-log)
		})
	}
}
