package etcd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"disc/discovery"
	"disc/discovery/devetcd"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/etcd"
	"disc/discovery/retry/retrytest"
)

// nobody is an address where nobody listens.
const nobody = "127.0.0.1:1"

func dialAs(t *testing.T, c etcd.Config) *clientv3.Client {
	t.Helper()
	client, err := etcd.Dial(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// listen returns a listener that hands each connection to serve.
func listen(t *testing.T, serve func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			serve(conn)
		}
	}()
	return l.Addr().String()
}

// TestUnreachable expects the cause before any call has ended.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		endpoints []string
		want      string
	}{
		"refused":  {[]string{nobody}, "etcd at 127.0.0.1:1 cannot be reached: connection refused; is it running"},
		"the same": {[]string{nobody, "127.0.0.2:1"}, "etcd at 127.0.0.1:1,127.0.0.2:1 cannot be reached: connection refused; is it running"},
		"scheme":   {[]string{"https://" + nobody}, "etcd at https://127.0.0.1:1 cannot be reached: connection refused"},
		"socket":   {[]string{"unix:///nowhere/etcd.sock"}, "etcd at unix:///nowhere/etcd.sock cannot be reached: no such file or directory"},
		"differ": {[]string{nobody, listen(t, func(c net.Conn) { c.Write([]byte("SSH-2.0-x\r\n")) })},
			"127.0.0.1:1: connection refused; 127.0.0.1:"},
		"ends":  {[]string{listen(t, func(c net.Conn) { c.Close() })}, "the server ended the connection without an answer"},
		"other": {[]string{listen(t, func(c net.Conn) { c.Write([]byte("220 mail\r\n")) })}, "the server does not speak HTTP/2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dialAs(t, etcd.Config{Endpoints: test.endpoints})
			c.ActiveConnection().Connect()
			retrytest.Succeeds(t, func() error { // the first attempt may take too long on a slow machine
				if err := etcd.Unreachable(c); !errors.Is(err, discovery.ErrUnavailable) || !strings.Contains(err.Error(), test.want) {
					return fmt.Errorf("got %v, want %q", err, test.want)
				}
				return nil
			})
		})
	}
}

// TestCallErrors expects of each call the cause, in place of the end of its context.
func TestCallErrors(t *testing.T) {
	t.Parallel()
	c := dialAs(t, etcd.Config{Endpoints: []string{nobody}})
	c.ActiveConnection().Connect()
	retrytest.Eventually(t, "a cause", func() bool { return etcd.Unreachable(c) != nil })
	own, err := c.Dial(nobody)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.Close() })
	for name, call := range map[string]func(context.Context) error{
		"get":    func(ctx context.Context) error { _, err := c.Get(ctx, "k"); return err },
		"put":    func(ctx context.Context) error { _, err := c.Put(ctx, "k", "v"); return err },
		"delete": func(ctx context.Context) error { _, err := c.Delete(ctx, "k"); return err },
		"do":     func(ctx context.Context) error { _, err := c.Do(ctx, clientv3.OpGet("k")); return err },
		"txn": func(ctx context.Context) error {
			_, err := c.Txn(ctx).If().Then(clientv3.OpGet("k")).Else().Commit()
			return err
		},
		"own":       func(ctx context.Context) error { _, err := etcd.NewKV(own, c).Get(ctx, "k"); return err },
		"grant":     func(ctx context.Context) error { _, err := c.Grant(ctx, 5); return err },
		"revoke":    func(ctx context.Context) error { _, err := c.Revoke(ctx, 5); return err },
		"remaining": func(ctx context.Context) error { _, err := c.TimeToLive(ctx, 5); return err },
		"renew":     func(ctx context.Context) error { _, err := c.KeepAliveOnce(ctx, 5); return err },
		"watch":     func(ctx context.Context) error { _, err := etcd.OpenWatch(ctx, c.ActiveConnection()); return err },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ended, cancel := context.WithTimeout(t.Context(), 0)
			defer cancel()
			soon, cancelSoon := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancelSoon()
			for _, ctx := range []context.Context{ended, soon} {
				err := call(ctx)
				if err == nil || !strings.Contains(err.Error(), "etcd at 127.0.0.1:1 cannot be reached: connection refused; is it running") || strings.Contains(err.Error(), "rpc error") {
					t.Errorf("got %v", err)
				}
				if got := etcd.Explain(c.Endpoints(), err); !errors.Is(got, discovery.ErrUnavailable) || !strings.Contains(got.Error(), "connection refused") {
					t.Errorf("explained: %v", got)
				}
			}
			if err := call(ended); name != "watch" && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v does not tell that its time is over", err)
			}
		})
	}
}

// TestNoAnswer expects that a call says which endpoint cannot be used, and that one which
// accepts connections is silent.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	silent := listen(t, func(net.Conn) {})
	c := dialAs(t, etcd.Config{Endpoints: []string{nobody, silent}, Timeout: time.Hour})
	var err error
	retrytest.Eventually(t, "both endpoints to be tried", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 1)
		defer cancel()
		c.ActiveConnection().Connect()
		_, err = c.Get(ctx, "k")
		return strings.Contains(err.Error(), "refused") && strings.Contains(err.Error(), "says nothing")
	})
	want := "etcd at " + nobody + "," + silent + " did not answer in time: " + nobody + ": connection refused; " + silent + ": it accepts the connection, and says nothing; "
	if !strings.HasPrefix(err.Error(), want) || etcd.Unreachable(c) != nil {
		t.Errorf("got %v, want %s…", err, want)
	}
}

// TestNotEtcd asks a server of gRPC that has none of etcd's services.
func TestNotEtcd(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	go s.Serve(l)
	t.Cleanup(s.Stop)
	c := dialAs(t, etcd.Config{Endpoints: []string{l.Addr().String()}})
	_, err = c.Get(timeout(t), "k")
	if got := etcd.Explain(c.Endpoints(), err); !errors.Is(got, discovery.ErrUnavailable) || !strings.Contains(got.Error(), "what answers there is not etcd (unknown service etcdserverpb.KV)") {
		t.Errorf("got %v", got)
	}
}

// TestAnswersOfEtcdAreKept expects that errors of etcd stay what they are.
func TestAnswersOfEtcdAreKept(t *testing.T) {
	t.Parallel()
	c := dialAs(t, etcd.Config{Endpoints: []string{etcdtest.Start(t).Endpoint()}})
	if _, err := c.Get(timeout(t), ""); !errors.Is(err, rpctypes.ErrEmptyKey) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Revoke(timeout(t), 5); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Get(ctx, "k"); !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "etcd at") {
		t.Errorf("of a call that was given up: %v", err)
	}
}

// TestLogOfConnections expects one line for an outage, and one for its end.
func TestLogOfConnections(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := etcdtest.StartWith(t, devetcd.Options{Dir: dir})
	s.Close()
	var log bytes.Buffer
	// An etcd that starts accepts connections, and may take longer than the usual time to answer.
	c := dialAs(t, etcd.Config{Endpoints: []string{s.Endpoint()}, Timeout: time.Hour, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	c.ActiveConnection().Connect()
	retrytest.Eventually(t, "a cause", func() bool { return etcd.Unreachable(c) != nil })
	etcdtest.StartWith(t, devetcd.Options{Dir: dir, Listen: s.Endpoint()})
	if _, err := c.Get(timeout(t), "k"); err != nil {
		t.Fatal(err)
	}
	if err := etcd.Unreachable(c); err != nil {
		t.Errorf("connected, and yet %v", err)
	}
	c.Close()
	text := log.String()
	if strings.Count(text, "cannot connect to etcd") != 1 || !strings.Contains(text, `error="connection refused"`) || strings.Count(text, "connected to etcd again") != 1 {
		t.Errorf("the log:\n%s", text)
	}
}
