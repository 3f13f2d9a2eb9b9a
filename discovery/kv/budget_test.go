package kv

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/quota"
	"disc/discovery/retry/retrytest"
)

// full makes a write, which must be refused because there is no room.
func (f *fixture) full(says string, ops ...Op) {
	f.t.Helper()
	if _, err := f.Write(f.t.Context(), ops...); !errors.Is(err, discovery.ErrStorageFull) || !strings.Contains(err.Error(), says) {
		f.t.Errorf("got %v, want %q", err, says)
	}
}

// counts returns how often the keys were counted.
func (f *fixture) counts() int64 {
	f.t.Helper()
	r := etcdtest.Must(f.etcd.Get(f.t.Context(), f.budget.usageKey))
	if len(r.Kvs) == 0 {
		return 0
	}
	return r.Kvs[0].Version
}

// age makes the last count as old as it must be to be read again.
func (b *budget) age() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refreshed = time.Now().Add(-refreshInterval)
}

func TestBudgetOfKeys(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{MaxKeys: 3})
	f.write(Op{Key: "a"})
	f.write(Op{Key: "a", Value: []byte("again")})
	f.write(Op{Key: "b/1"}, Op{Key: "b/2"})
	f.full("has 3 keys, and kv.max_keys is 3", Op{Key: "a"})
	f.full("disc kv del -r PREFIX/", Op{Key: "c"})
	f.full("kv.max_keys", Op{Key: "c"}, Op{Key: "a", Delete: true})
	f.write(Op{Key: "a", Delete: true}, Op{Key: "nothing", Delete: true})
	f.write(Op{Key: "c"})
	f.full("kv.max_keys", Op{Key: "d"})
	if _, _, err := f.DeleteBelow(t.Context(), "b/"); err != nil {
		t.Fatal(err)
	}
	f.write(Op{Key: "d"}, Op{Key: "e"})
	f.full("kv.max_keys", Op{Key: "f"})
}

func TestBudgetOfBytes(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{MaxBytes: 1 << 20})
	large := make([]byte, MaxValue)
	for range 4 { // one after the other in the same place
		f.write(Op{Key: "a", Value: large})
	}
	f.write(Op{Key: "b", Value: large})
	f.full("1MiB of keys and values, and kv.max_bytes is 1MiB", Op{Key: "c"})
	f.write(Op{Key: "a", Delete: true})
	f.write(Op{Key: "c"})
}

// The keys are counted by one of all that write, at most once a minute, and not at all for
// those that only read or have no bound.
func TestKeysAreCountedInTurn(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	free := start(t, s.Endpoint(), s.Endpoint(), Options{})
	free.write(Op{Key: "a"}, Op{Key: "b", Value: []byte("123")})
	reader := start(t, s.Endpoint(), s.Endpoint(), Options{MaxKeys: 4, MaxBytes: 100})
	reader.keys("", Read{})
	if n := free.counts(); n != 0 {
		t.Fatalf("the keys were counted %d times", n)
	}
	var writers []*fixture
	var writing sync.WaitGroup
	for range 5 {
		writers = append(writers, start(t, s.Endpoint(), s.Endpoint(), Options{MaxKeys: 100, MaxBytes: 1000}))
	}
	for _, f := range writers {
		writing.Go(func() {
			if _, err := f.Write(t.Context(), Op{Key: "c"}); err != nil {
				t.Error(err)
			}
		})
	}
	writing.Wait()
	if n := free.counts(); n != 1 {
		t.Errorf("the keys were counted %d times by 5 at once", n)
	}
	for _, f := range writers {
		f.budget.age()
		f.write(Op{Key: "d"})
		retrytest.Eventually(t, "the count is read again", func() bool {
			f.budget.mu.Lock()
			defer f.budget.mu.Unlock()
			return time.Since(f.budget.refreshed) < refreshInterval
		})
	}
	if n := free.counts(); n != 1 {
		t.Errorf("the keys were counted %d times in one minute", n)
	}

	// The minute is over.
	etcdtest.Must(free.etcd.Delete(t.Context(), free.budget.turn))
	writers[0].budget.age()
	writers[0].write(Op{Key: "d"})
	retrytest.Eventually(t, "the keys are counted again", func() bool { return free.counts() == 2 })
	retrytest.Eventually(t, "the count", func() bool {
		writers[0].budget.mu.Lock()
		defer writers[0].budget.mu.Unlock()
		used := writers[0].budget.used
		return used.Keys == 4 && used.Bytes == 7
	})

	// Who writes for the first time goes by the count of the others, and need not run.
	late := etcdtest.Must(New(free.etcd, discovery.NewKeys("test"), Options{MaxKeys: 4}))
	if _, err := late.Write(t.Context(), Op{Key: "e"}); !errors.Is(err, discovery.ErrStorageFull) {
		t.Error(err)
	}
}

// Many keys, small and large, are counted page by page.
func TestCountOfManyKeys(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{MaxBytes: 1 << 30})
	want := usage{}
	for n := range 40 {
		var ops []Op
		for m := range MaxOps {
			op := Op{Key: fmt.Sprintf("%02d/%02d", n, m), Value: make([]byte, n*m)}
			ops = append(ops, op)
			want.Keys++
			want.Bytes += discovery.Bytes(len(op.Key) + len(op.Value))
		}
		f.write(ops...)
	}
	got := etcdtest.Must(f.budget.count(t.Context()))
	if got.Keys != want.Keys || got.Bytes != want.Bytes {
		t.Errorf("%+v, want %+v", got, want)
	}
	f.budget.maxBytes = 0
	if got = etcdtest.Must(f.budget.count(t.Context())); got.Keys != want.Keys || got.Bytes != 0 {
		t.Errorf("%+v, want %d keys", got, want.Keys)
	}
}

// A count that cannot be read or made does not stop writes.
func TestWritesWithoutACount(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{MaxKeys: 10})
	etcdtest.Must(f.etcd.Put(t.Context(), f.budget.usageKey, "junk"))
	etcdtest.Must(f.etcd.Put(t.Context(), f.budget.turn, ""))
	f.write(Op{Key: "a"})
}

// Writes are refused while etcd has no space, and beyond the rate; deletions are not refused
// for space.
func TestWritesAreAdmitted(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	client := etcdtest.Client(t, s.Endpoint())
	f := start(t, s.Endpoint(), s.Endpoint(), Options{Space: quota.NewSpace(client, 0)})
	etcdtest.Must(client.Put(t.Context(), f.prefix+"a", "1"))
	etcdtest.Must(client.Put(t.Context(), f.prefix+"b/1", "1"))
	etcdtest.RaiseNoSpace(t, client)
	f.full(`write key "c": etcd has raised its alarm NOSPACE`, Op{Key: "c"})
	f.write(Op{Key: "a", Delete: true})
	if _, _, err := f.DeleteBelow(t.Context(), "b/"); err != nil {
		t.Error(err)
	}
	if left := etcdtest.Must(client.Get(t.Context(), f.prefix, clientv3.WithPrefix())); len(left.Kvs) != 0 {
		t.Errorf("%d keys are left", len(left.Kvs))
	}

	busy := start(t, s.Endpoint(), s.Endpoint(), Options{Rate: quota.NewRate(1)})
	deletions := make([]Op, MaxOps)
	for n := range deletions {
		deletions[n] = Op{Key: fmt.Sprint(n), Delete: true}
	}
	busy.write(deletions...)
	if _, err := busy.Write(t.Context(), deletions...); !errors.Is(err, discovery.ErrBusy) || !strings.Contains(err.Error(), `write key "0": this agent makes 1 writes`) {
		t.Error(err)
	}
}
