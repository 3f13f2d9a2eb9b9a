package catalog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/retry"
)

// services registers one instance of each of n services.
func (f *fixture) services(n int) {
	f.t.Helper()
	for first := 0; first < n; first += 100 {
		var puts []clientv3.Op
		for i := first; i < min(first+100, n); i++ {
			service := fmt.Sprintf("s%05d", i)
			puts = append(puts, clientv3.OpPut(keys.Instance(service, "a"), record(service, "a")))
		}
		if _, err := f.etcd.Txn(f.ctx()).Then(puts...).Commit(); err != nil {
			f.t.Fatal(err)
		}
	}
}

// The names of very many services take a few reads, however many callers ask for them.
func TestNamesOfManyServices(t *testing.T) {
	t.Parallel()
	const many, callers = 5000, 50
	f, _ := lazily(t, Options{Watch: WatchLazy})
	f.services(many)
	fill(t, f.etcd, "s00007", 1500, func(id string) string { return record("s00007", id) })
	before, began := f.reads.Load(), time.Now()
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			if names, err := f.ServiceNames(f.ctx()); err != nil || len(names) != many || names[7] != "s00007" {
				t.Errorf("%d names, %v", len(names), err)
			}
		})
	}
	all.Wait()
	readings := 1 + int64(time.Since(began)/namesTTL)
	if n := f.reads.Load() - before; n > readings*(many/namesPage+3) {
		t.Errorf("%d reads", n)
	}
}

// Lookups of ever new unknown names cost etcd a bounded number of reads, and delay no lookup of
// a service that exists.
func TestUnknownNamesAreBounded(t *testing.T) {
	t.Parallel()
	const names, callers = 3000, 20
	f, _ := lazily(t, Options{Watch: WatchLazy})
	f.services(200)
	before, began := f.reads.Load(), time.Now()
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			for n := caller; n < names; n += callers {
				if _, err := f.lookup(fmt.Sprint("unknown-", n)); !errors.Is(err, discovery.ErrNotFound) {
					t.Errorf("unknown-%d: %v", n, err)
				}
			}
		})
	}
	all.Wait()
	seconds := 1 + int64(time.Since(began)/time.Second)
	if n := f.reads.Load() - before; n > missBurst+seconds*(missRate+5) {
		t.Errorf("%d reads in %d s", n, seconds)
	}
	for n := range 200 {
		if got, err := f.lookup(fmt.Sprintf("s%05d", n)); err != nil || len(got.Endpoints) != 1 {
			t.Fatalf("a service that exists: %+v, %v", got, err)
		}
	}
}

// A caller that gives up does not fail those that wait for the names it reads.
func TestNamesOutliveACaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var readings atomic.Int64
		n := names{read: func(ctx context.Context) ([]string, error) {
			readings.Add(1)
			return []string{"web"}, retry.Sleep(ctx, 100*time.Millisecond)
		}}
		impatient, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		go n.list(impatient)
		synctest.Wait()
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if got, err := n.list(t.Context()); err != nil || len(got) != 1 {
					t.Errorf("%v, %v", got, err)
				}
			})
		}
		all.Wait()
		if got := readings.Load(); got != 2 {
			t.Errorf("%d readings, want 2", got)
		}
	})
}
