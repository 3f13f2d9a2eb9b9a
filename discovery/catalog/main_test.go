package catalog

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/life"
	"disc/discovery/retry/retrytest"
	"disc/discovery/view"
)

func TestMain(m *testing.M) { etcdtest.Main(m) }

var keys = discovery.NewKeys("test")

// fixture is a running catalog, and a client of etcd for the test itself.
type fixture struct {
	*Catalog
	t    *testing.T
	etcd *clientv3.Client
	log  *logBuffer
	stop func() // ends Run, and waits for it

	reads atomic.Int64 // calls of the catalog that read from etcd
}

// countedReads counts the calls that read from etcd.
type countedReads struct {
	clientv3.KV
	reads *atomic.Int64
}

func (c countedReads) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	c.reads.Add(1)
	return c.KV.Get(ctx, key, opts...)
}

func (c countedReads) GetStream(ctx context.Context, key string, opts ...clientv3.OpOption) (clientv3.GetStreamChan, error) {
	c.reads.Add(1)
	return c.KV.GetStream(ctx, key, opts...)
}

// logBuffer collects the catalog's log.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *logBuffer) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

// lines returns the lines that contain all words.
func (j *logBuffer) lines(words ...string) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var found []string
	for line := range strings.Lines(j.text.String()) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			found = append(found, line)
		}
	}
	return found
}

// anyLife stands in a test's options for what begins a life over the catalog's own endpoint.
var anyLife = &life.Life{}

// start runs a catalog over one endpoint, while the test itself uses another.
func start(t *testing.T, etcd, endpoint string, o Options) *fixture {
	t.Helper()
	return startAs(t, etcdtest.Client(t, etcd), etcdtest.Client(t, endpoint), o)
}

// startAs runs a catalog with one client, while the test itself uses another.
func startAs(t *testing.T, etcd, client *clientv3.Client, o Options) *fixture {
	t.Helper()
	f := &fixture{t: t, etcd: etcd, log: &logBuffer{}}
	o.Logger = slog.New(slog.NewTextHandler(f.log, nil))
	client.KV = countedReads{client.KV, &f.reads}
	if o.Life != nil {
		o.Life = life.New(client, keys, life.Options{})
	}
	f.Catalog = etcdtest.Must(New(client, keys, o))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	f.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("health %+v\n%s", f.Health(), strings.Join(f.log.lines(), ""))
		}
		f.stop()
	})
	return f
}

// settled waits until the view equals etcd, and returns it.
func (f *fixture) settled() *view.Snapshot {
	f.t.Helper()
	truth, _ := f.truth()
	want := dump(truth)
	retrytest.Eventually(f.t, "the view of etcd's revision "+fmt.Sprint(truth.Revision()), func() bool {
		return f.snapshot() != nil && dump(f.snapshot()) == want
	})
	return f.snapshot()
}

func (f *fixture) truth() (*view.Snapshot, []discovery.BrokenRecord) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	s, broken, err := ReadOnce(ctx, f.etcd, keys, "")
	if err != nil {
		f.t.Fatal(err)
	}
	return s, broken
}

// dump returns the content of a snapshot as text, without empty services.
func dump(s *view.Snapshot) string {
	var b strings.Builder
	encode := json.NewEncoder(&b)
	var revisions []string
	for key, revision := range s.Keys() {
		revisions = append(revisions, fmt.Sprint(key, revision))
	}
	slices.Sort(revisions)
	encode.Encode(revisions)
	for service := range s.Services() {
		if !service.Empty() {
			fmt.Fprintln(&b, service.Name)
			encode.Encode(service.Entries())
		}
	}
	for node := range s.Nodes() {
		encode.Encode(node)
	}
	return b.String()
}

// record is an instance's record.
func record(service, id string) string {
	return fmt.Sprintf(`{"service":%q,"id":%q,"address":"10.0.0.5","port":80,"owner":"o"}`, service, id)
}

func (f *fixture) put(key, value string) int64 {
	f.t.Helper()
	r, err := f.etcd.Put(f.ctx(), key, value)
	if err != nil {
		f.t.Fatal(err)
	}
	return r.Header.Revision
}

func (f *fixture) register(service, id string) int64 {
	f.t.Helper()
	return f.put(keys.Instance(service, id), record(service, id))
}

func (f *fixture) remove(key string) int64 {
	f.t.Helper()
	r, err := f.etcd.Delete(f.ctx(), key)
	if err != nil {
		f.t.Fatal(err)
	}
	return r.Header.Revision
}

// callTimeout bounds a call of a test to etcd.
const callTimeout = 30 * time.Second

// ctx bounds a call of the test.
func (f *fixture) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	f.t.Cleanup(cancel)
	return ctx
}

// reached waits until the view is complete up to a revision.
func (f *fixture) reached(revision int64) *view.Snapshot {
	f.t.Helper()
	retrytest.Eventually(f.t, fmt.Sprintf("revision %d", revision), func() bool {
		return f.snapshot() != nil && f.snapshot().Revision() >= revision
	})
	return f.snapshot()
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// fill puts n instances of a service in transactions of 100.
func fill(t testing.TB, client *clientv3.Client, service string, n int, value func(id string) string) {
	t.Helper()
	for first := 0; first < n; first += 100 {
		var puts []clientv3.Op
		for i := first; i < min(first+100, n); i++ {
			id := fmt.Sprintf("i%06d", i)
			puts = append(puts, clientv3.OpPut(keys.Instance(service, id), value(id)))
		}
		if _, err := client.Txn(context.Background()).Then(puts...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
}
