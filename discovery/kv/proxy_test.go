package kv

import (
	"context"
	"fmt"
	"testing"
	"time"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// Behind etcd's grpc-proxy, which reports no progress, keys are cached, a read has what its revision
// asks for, and whoever waits learns of changes.
func TestBehindProxy(t *testing.T) {
	t.Parallel()
	etcdtest.ForEachProxy(t, func(t *testing.T, program string) {
		t.Parallel()
		server := etcdtest.Start(t)
		proxy := etcdtest.StartProxy(t, program, server.Endpoint())
		f := start(t, server.Endpoint(), proxy.Endpoint(), Options{})
		last := f.put("a/k", "0")
		f.get("a/k", Read{})
		for n := range 10 {
			value := fmt.Sprint(n)
			_, fresh, err := f.Get(t.Context(), "a/k", Read{MinRevision: last})
			if err != nil {
				t.Fatal(err)
			}
			waited := make(chan error, 1)
			go func() { waited <- f.AwaitChange(t.Context(), "a/k", fresh) }()
			f.put("a/k", value)
			if err := <-waited; err != nil {
				t.Fatal(err)
			}
			last = f.put("elsewhere", value)
			if i, _, err := f.Get(t.Context(), "a/k", Read{MinRevision: last}); err != nil || string(i.Value) != value {
				t.Errorf("%q, %v; want %q", i.Value, err, value)
			}
		}
		retrytest.Eventually(t, "the cache to be confirmed up to the last write", func() bool {
			cut, ok := f.state.Load().cut(f.prefixRange("a/"))
			return ok && cut.revision >= last
		})
		if h := f.reflector.Health(); h.Err != nil || h.Resyncs > 0 {
			t.Errorf("%+v", h)
		}
	})
}

// Who waits behind a proxy for a change of what is not cached is told of it, and reads again from time
// to time in case that the proxy has missed one.
func TestAwaitInEtcdBehindProxy(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	proxy := etcdtest.StartProxy(t, etcdtest.Bundled, server.Endpoint())
	f := start(t, server.Endpoint(), proxy.Endpoint(), Options{})
	last := f.put("a/k", "1")
	waited := make(chan error, 1)
	go func() { waited <- f.awaitChangeInEtcd(t.Context(), f.keyRange("a/k"), last) }()
	last = f.put("a/k", "2")
	if err := <-waited; err != nil {
		t.Error(err)
	}
	etcdtest.SkipUnlessLong(t, "waits for the next read")
	ctx, cancel := context.WithTimeout(t.Context(), 10*proxiedRead)
	defer cancel()
	started := time.Now()
	if err := f.awaitChangeInEtcd(ctx, f.keyRange("a/k"), last); err != nil || time.Since(started) < proxiedRead {
		t.Errorf("after %v: %v", time.Since(started), err)
	}
}
