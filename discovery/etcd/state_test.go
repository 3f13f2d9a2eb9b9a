package etcd

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"disc/discovery/connect"
)

var refused = connect.Failure{Kind: connect.Refused, Reason: "connection refused"}

// TestFailuresAreForgotten expects that an endpoint is not blamed for what happened to the last
// connection to it long ago: it may have been well since.
func TestFailuresAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, record := range map[string]func(*connections){
			"a failure":  func(c *connections) { c.failed("a:1", refused) },
			"an attempt": func(c *connections) { c.waits("a:1", waitsForFirst) },
		} {
			c := newConnections([]string{"a:1"}, time.Second, nil)
			record(c)
			if got := c.noAnswer(); strings.Contains(got, askAll) {
				t.Errorf("after %s: %s", name, got)
			}
			time.Sleep(2 * time.Minute)
			if got := c.noAnswer(); !strings.Contains(got, askAll) {
				t.Errorf("long after %s: %s", name, got)
			}
		}
	})
}

// TestLogOfCauses expects that another cause is logged at once, and the same one rarely.
func TestLogOfCauses(t *testing.T) {
	expired := func(at string) connect.Failure {
		return connect.Failure{Kind: connect.BadCertificate, Reason: "expired: current time " + at}
	}
	for name, test := range map[string]struct {
		failures []connect.Failure
		lines    int
	}{
		"the same":       {[]connect.Failure{refused, refused, refused, refused}, 1},
		"another kind":   {[]connect.Failure{refused, refused, {Kind: connect.NoHost, Reason: "no such host"}}, 2},
		"another reason": {[]connect.Failure{refused, refused, {Kind: connect.Refused, Reason: "no route to host"}}, 2},
		"and back":       {[]connect.Failure{refused, refused, {Kind: connect.NoHost, Reason: "no such host"}, refused, refused}, 3},
		"another time":   {[]connect.Failure{expired("1"), expired("1"), expired("3")}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			c := newConnections([]string{"a:1"}, time.Second, slog.New(slog.NewTextHandler(&log, nil)))
			for _, f := range test.failures {
				c.failed("a:1", f)
			}
			if got := strings.Count(log.String(), "\n"); got != test.lines {
				t.Errorf("got %d lines, want %d:\n%s", got, test.lines, log.String())
			}
		})
	}
}

// TestNoConnectionNamesTheEndpoint expects that an endpoint that fails is named, though another
// one does not.
func TestNoConnectionNamesTheEndpoint(t *testing.T) {
	c := newConnections([]string{"a:1", "b:1"}, time.Second, nil)
	c.failed("b:1", refused)
	for message, want := range map[string]string{
		`connection error: desc = "transport: Error while dialing: x"`: "etcd at a:1,b:1 cannot be reached: b:1: connection refused; is it running",
		"error reading from server: EOF":                               "etcd at a:1,b:1 cannot be reached: error reading from server: EOF; b:1: connection refused; is it running",
	} {
		if got := c.noConnection(message); !strings.HasPrefix(got, want) {
			t.Errorf("got %s, want %s…", got, want)
		}
	}
}
