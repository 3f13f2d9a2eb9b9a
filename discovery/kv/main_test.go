package kv

import (
	"context"
	"log/slog"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/life"
)

func TestMain(m *testing.M) { etcdtest.Main(m) }

// fixture is a store that runs, and a client of etcd for the test itself.
type fixture struct {
	*Store
	t    *testing.T
	etcd *clientv3.Client
}

// start runs a store over one endpoint, while the test itself uses another.
func start(t *testing.T, etcd, endpoint string, o Options) *fixture {
	t.Helper()
	return startWithin(t, etcd, endpoint, o, defaultBounds)
}

// startWithin runs a store with bounds of its own.
func startWithin(t *testing.T, etcd, endpoint string, o Options, b bounds) *fixture {
	t.Helper()
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	client := etcdtest.Client(t, endpoint)
	o.Life = life.New(client, discovery.NewKeys("test"), life.Options{})
	f := &fixture{t: t, etcd: etcdtest.Client(t, etcd), Store: etcdtest.Must(New(client, discovery.NewKeys("test"), o))}
	f.bounds = b
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return f
}

// put writes a key and returns its revision.
func (f *fixture) put(key, value string) int64 {
	f.t.Helper()
	revision, err := f.Write(f.t.Context(), Op{Key: key, Value: []byte(value)})
	if err != nil {
		f.t.Fatal(err)
	}
	return revision
}

// get reads a key, which must be there.
func (f *fixture) get(key string, r Read) Item {
	f.t.Helper()
	i, _, err := f.Get(f.t.Context(), key, r)
	if err != nil {
		f.t.Fatal(err)
	}
	return i
}

// keys lists the names below a prefix.
func (f *fixture) keys(prefix string, r Read) []string {
	f.t.Helper()
	items, _, err := f.List(f.t.Context(), prefix, r)
	if err != nil {
		f.t.Fatal(err)
	}
	names := []string{}
	for i := range items {
		names = append(names, i.Key)
	}
	return names
}
