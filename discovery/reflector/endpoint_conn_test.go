package reflector

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"disc/discovery/etcd"
	"disc/discovery/retry/retrytest"
)

// TestConnectToSilentMember expects the endpoint that is connected to, and what it waits for.
func TestConnectToSilentMember(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() }) // connections wait in its queue
	silent := l.Addr().String()
	client, err := etcd.Dial(t.Context(), etcd.Config{Endpoints: []string{silent, "127.0.0.1:1"}, Timeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	retrytest.Eventually(t, "the cause", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		m := endpointConn{next: 2} // the first
		defer m.disconnect()
		err := m.connect(ctx, client)
		return err != nil && strings.HasPrefix(err.Error(), "etcd at "+silent+" cannot be reached: it accepts the connection, and says nothing; is --endpoints right")
	})
}
