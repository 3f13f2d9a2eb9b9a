package lease

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/pkg/v3/proxy"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

func TestMain(m *testing.M) {
	// An embedded member of a cluster leaves its connections to its peers idle.
	etcdtest.Main(m,
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("net/http.(*connReader).backgroundRead"),
		goleak.IgnoreAnyFunction("net/http.(*conn).serve"))
}

// fixture is a running session.
type fixture struct {
	*Session
	t    *testing.T
	stop func() // ends Run, and waits for it
}

// start runs a session at endpoints until the test ends, or stop is called.
func start(t *testing.T, ttl time.Duration, endpoints ...string) *fixture {
	t.Helper()
	return startWith(t, ttl, etcdtest.Client(t, endpoints...))
}

func startWith(t *testing.T, ttl time.Duration, client *clientv3.Client) *fixture {
	t.Helper()
	f := &fixture{t: t, Session: etcdtest.Must(New(client, ttl, Options{}))}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	f.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(f.stop)
	return f
}

// disconnect ends the session and its connections.
func (f *fixture) disconnect() {
	f.stop()
	f.client.Close()
}

// granted waits for a lease other than the given ones.
func (f *fixture) granted(other Lease) Lease {
	f.t.Helper()
	retrytest.Eventually(f.t, "a new lease", func() bool {
		l, _ := f.Lease()
		return l.ID != 0 && l.ID != other.ID
	})
	l, _ := f.Lease()
	return l
}

// renewed waits for a renewal that is sent from now on, asked for at once.
func (f *fixture) renewed() Lease {
	f.t.Helper()
	now := Uptime()
	current, _ := f.Lease()
	f.Verify(current.ID)
	retrytest.Eventually(f.t, "a renewal", func() bool {
		l, _ := f.Lease()
		return l.ID != 0 && l.sent > now
	})
	l, _ := f.Lease()
	return l
}

// failures counts the calls that failed.
func (f *fixture) failures(call string) int {
	var m dto.Metric
	if err := f.metrics.failures.WithLabelValues(call).Write(&m); err != nil {
		f.t.Fatal(err)
	}
	return int(m.GetCounter().GetValue())
}

// failed waits for n more calls that fail.
func (f *fixture) failed(call string, n int) {
	f.t.Helper()
	before := f.failures(call)
	retrytest.Eventually(f.t, "failures of "+call, func() bool { return f.failures(call) >= before+n })
}

// path returns a socket for a proxy, and the endpoint that clients use for it.
func path(t *testing.T) (socket, endpoint string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "lease-") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")
	return socket, "unix://" + socket
}

// serve runs a proxy in front of etcd until the test ends.
func serve(t *testing.T, socket, etcd string) proxy.Server {
	t.Helper()
	p := proxy.NewServer(proxy.ServerConfig{
		Logger: zap.NewNop(),
		From:   url.URL{Scheme: "unix", Host: socket},
		To:     url.URL{Scheme: "tcp", Host: etcd},
	})
	select {
	case <-p.Ready():
	case err := <-p.Error():
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// proxied runs a proxy in front of etcd and returns it with its endpoint.
func proxied(t *testing.T, etcd string) (proxy.Server, string) {
	t.Helper()
	socket, endpoint := path(t)
	return serve(t, socket, etcd), endpoint
}
