package etcd_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"disc/discovery/etcd"
	"disc/discovery/retry/retrytest"
)

// silences are what a member that accepts connections and says nothing is waited for.
var silences = map[string]struct {
	tls  func(context.Context) (*tls.Config, error)
	want string
}{
	"without TLS": {nil, "it accepts the connection, and says nothing"},
	"with TLS": {func(context.Context) (*tls.Config, error) { return &tls.Config{MinVersion: tls.VersionTLS12}, nil },
		"it accepts the connection, and does not answer the TLS handshake"},
}

// TestSilentMember expects that an attempt that takes too long says what it waited for.
func TestSilentMember(t *testing.T) {
	t.Parallel()
	for name, test := range silences {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			silent := listen(t, func(net.Conn) {})
			c := dialAs(t, etcd.Config{Endpoints: []string{silent}, TLS: test.tls, Timeout: 200 * time.Millisecond})
			c.ActiveConnection().Connect()
			want := "etcd at " + silent + " cannot be reached: " + test.want + "; is --endpoints right"
			retrytest.Succeeds(t, func() error { // a slow machine may take the time of an attempt for less
				if err := etcd.Unreachable(c); err == nil || !strings.HasPrefix(err.Error(), want) {
					return fmt.Errorf("got %v, want %s…", err, want)
				}
				return nil
			})
		})
	}
}

// TestAttemptThatIsGivenUp expects that a member is not blamed for a connection that is closed
// before it was made.
func TestAttemptThatIsGivenUp(t *testing.T) {
	t.Parallel()
	for name, test := range silences {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var logged bytes.Buffer
			silent := listen(t, func(net.Conn) {})
			c := dialAs(t, etcd.Config{Endpoints: []string{silent}, TLS: test.tls, Timeout: time.Hour, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
			own, err := c.Dial(silent)
			if err != nil {
				t.Fatal(err)
			}
			own.Connect()
			retrytest.Eventually(t, "the silence", func() bool {
				err := etcd.Unreachable(c, silent)
				return err != nil && strings.Contains(err.Error(), test.want)
			})
			own.Close()
			retrytest.Eventually(t, "the end of the attempt", func() bool {
				err := etcd.Unreachable(c, silent)
				return err == nil || !strings.Contains(err.Error(), test.want)
			})
			if err := etcd.Unreachable(c, silent); err != nil || logged.Len() > 0 {
				t.Errorf("got %v, and the log:\n%s", err, logged.String())
			}
		})
	}
}
