package lease

import (
	"net"
	"strings"
	"testing"
	"time"

	"disc/discovery/etcd"
	"disc/discovery/retry/retrytest"
)

// TestRenewalOverSilentMember expects that a renewal without an answer says what the connection
// waits for.
func TestRenewalOverSilentMember(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() }) // connections wait in its queue
	client, err := etcd.Dial(t.Context(), etcd.Config{Endpoints: []string{l.Addr().String()}, Timeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	k := keepalive{client: client, id: 1}
	t.Cleanup(k.close)
	retrytest.Eventually(t, "the cause", func() bool {
		_, err := k.renew(t.Context(), 100*time.Millisecond)
		return strings.Contains(err.Error(), "no answer within 100ms: etcd at "+l.Addr().String()+" cannot be reached: it accepts the connection, and says nothing")
	})
}
