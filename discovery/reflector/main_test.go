package reflector

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

func TestMain(m *testing.M) { etcdtest.Main(m) }

var testKeys = discovery.NewKeys("test")

// recordingStore is the simplest store: the values and revisions of the keys, and a record
// of the calls.
type recordingStore struct {
	mu        sync.Mutex
	values    map[string]string
	revisions map[string]int64
	replaced  int
	last      Update
	reached   int64 // the newest Progress of an update without ranges that are behind
	events    []*clientv3.Event
}

func newRecordingStore() *recordingStore {
	return &recordingStore{values: map[string]string{}, revisions: map[string]int64{}}
}

func (m *recordingStore) Known(r Range) iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		for key, revision := range m.revisions {
			if r.Contains(key) && !yield(key, revision) {
				return
			}
		}
	}
}

func (m *recordingStore) Replace(l *Listing) error {
	values, revisions := map[string]string{}, map[string]int64{}
	revision, err := l.Read(func(page []*mvccpb.KeyValue) {
		for _, kv := range page {
			values[string(kv.Key)], revisions[string(kv.Key)] = string(kv.Value), kv.ModRevision
		}
	})
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for key := range m.Known(l.Range) {
		if !slices.ContainsFunc(l.Except, func(r Range) bool { return r.Contains(key) }) {
			delete(m.values, key)
			delete(m.revisions, key)
		}
	}
	maps.Copy(m.values, values)
	maps.Copy(m.revisions, revisions)
	m.replaced++
	m.last = Update{Revision: max(m.last.Revision, revision), Epoch: l.Epoch, Confirmed: l.Started}
	return nil
}

func (m *recordingStore) Apply(u Update) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range u.Events {
		if key := string(e.Kv.Key); e.Type == clientv3.EventTypeDelete {
			delete(m.values, key)
			delete(m.revisions, key)
		} else {
			m.values[key], m.revisions[key] = string(e.Kv.Value), e.Kv.ModRevision
		}
	}
	m.events = append(m.events, u.Events...)
	m.last = u
	if len(u.Behind) == 0 {
		m.reached = max(m.reached, u.Progress)
	}
}

// drop removes the keys outside the given ranges.
func (m *recordingStore) drop(except ...Range) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key := range m.values {
		if !slices.ContainsFunc(except, func(r Range) bool { return r.Contains(key) }) {
			delete(m.values, key)
			delete(m.revisions, key)
		}
	}
}

// holds returns the values of all keys.
func (m *recordingStore) holds() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.values)
}

// awaitConfirmed waits until the store has exactly these values, and is confirmed to have had all of
// etcd at a time.
func (m *recordingStore) awaitConfirmed(t *testing.T, since time.Time, want map[string]string) {
	t.Helper()
	retrytest.Succeeds(t, func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		switch {
		case !maps.Equal(m.values, want):
			return fmt.Errorf("the store has %v, want %v", m.values, want)
		case m.last.Confirmed.Before(since):
			return errors.New("the store is not confirmed")
		}
		return nil
	})
}

// run runs a reflector until the test ends.
func run(t *testing.T, endpoint string, m Store, o Options) *Reflector {
	t.Helper()
	return runOn(t, etcdtest.Client(t, endpoint), m, o)
}

// runOn runs a reflector with a client that may have several endpoints.
func runOn(t *testing.T, client *clientv3.Client, m Store, o Options) *Reflector {
	t.Helper()
	if o.Epoch == "" {
		o.Epoch = "/epoch"
	}
	r := New(client, m, o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return r
}

func put(t *testing.T, client *clientv3.Client, key, value string) int64 {
	t.Helper()
	resp, err := client.Put(t.Context(), key, value)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

// fill puts n keys under a prefix, in transactions of 100.
func fill(t testing.TB, client *clientv3.Client, prefix string, n int) {
	t.Helper()
	for first := 0; first < n; first += 100 {
		var puts []clientv3.Op
		for i := first; i < min(first+100, n); i++ {
			puts = append(puts, clientv3.OpPut(fmt.Sprintf("%s%06d", prefix, i), "value"))
		}
		if _, err := client.Txn(context.Background()).Then(puts...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
}

// progress returns a response without events for all watches.
func progress(cluster uint64, revision int64) []*pb.WatchResponse {
	return []*pb.WatchResponse{{WatchId: allWatches, Header: &pb.ResponseHeader{ClusterId: cluster, Revision: revision}}}
}
