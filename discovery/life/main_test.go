package life

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lease"
)

func TestMain(m *testing.M) { etcdtest.Main(m) }

var keys = discovery.NewKeys("test")

// contact is a session whose contact with etcd the test breaks.
type contact struct {
	mu     sync.Mutex
	n      int
	broken chan struct{}
}

func newContact() *contact { return &contact{broken: make(chan struct{})} }

func (c *contact) Contact() (int, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n, c.broken
}

func (c *contact) breaks() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	close(c.broken)
	c.broken = make(chan struct{})
}

// newLife returns what an agent knows of an etcd, which is nothing yet.
func newLife(t *testing.T, client *clientv3.Client) *Life {
	return New(client, keys, Options{Session: newContact(), Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
}

// check asks whether etcd goes on, which must be answered.
func (l *Life) check(t *testing.T) Identity {
	t.Helper()
	now, err := l.Check(etcdtest.Context(t), l.client, Identity{})
	if err != nil {
		t.Fatal(err)
	}
	return now
}

// aged makes an agent remember a revision that etcd does not have, as after a restore.
func (l *Life) aged(revisions int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.memory.Revision += revisions
}

// runs runs a life until the test ends.
func (l *Life) runs(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// get returns a key's value and its lease; "": there is no key.
func get(t *testing.T, client *clientv3.Client, key string) (string, clientv3.LeaseID) {
	t.Helper()
	r, err := client.Get(etcdtest.Context(t), key)
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range r.Kvs {
		return string(kv.Value), clientv3.LeaseID(kv.Lease)
	}
	return "", 0
}

func put(t *testing.T, client *clientv3.Client, key, value string) int64 {
	t.Helper()
	r, err := client.Put(etcdtest.Context(t), key, value)
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.Revision
}

// grants reports whether a guarded transaction is carried out.
func (l *Life) grants(t *testing.T) bool {
	t.Helper()
	g := l.Present()
	r, err := l.client.Txn(etcdtest.Context(t)).If(g.Compares()...).Commit()
	if err != nil {
		t.Fatal(err)
	}
	return r.Succeeded && g.Check(r.Header) == nil
}

// short makes the quarantines of an etcd as short as can be.
func short(t *testing.T, client *clientv3.Client) {
	put(t, client, keys.QuarantineLength(), `{"length":"2s"}`)
}

func uptime() time.Duration { return lease.Uptime() }
