package catalog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/retry"
	"disc/discovery/retry/retrytest"
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

// exhaust leaves no reads that may find nothing until the returned function is called.
func (f *fixture) exhaust() (end func()) {
	f.missing.misses.SetLimit(0)
	f.missing.misses.AllowN(time.Now(), missBurst)
	return func() { f.missing.misses.SetLimit(missRate) }
}

// Where etcd forbids the list of all names, lookups of unknown names neither forbid a service
// that is permitted nor hold up one that was watched before, and cost few reads.
func TestUnknownNamesWithoutTheList(t *testing.T) {
	t.Parallel()
	r := restrict(t)
	r.permitService("web")
	r.permitService("db")
	f := r.start(Options{Watch: WatchLazy})
	retrytest.Eventually(t, "a view", func() bool { return f.snapshot() != nil })
	f.register("web", "a")
	f.register("db", "a")
	f.wantInstances("db", 1)
	f.idle()
	end := f.exhaust()
	before, began := f.reads.Load(), time.Now()
	var all sync.WaitGroup
	for n := range 50 {
		all.Go(func() { f.lookup(fmt.Sprint("unknown-", n)) })
	}
	all.Go(func() {
		_, err := f.lookup("web")
		if !errors.Is(err, discovery.ErrUnavailable) || !strings.Contains(err.Error(), "too many unknown names") {
			t.Errorf("a service beyond the bound: %v", err)
		}
	})
	if got, err := f.lookup("db"); err != nil || len(got.Endpoints) != 1 {
		t.Errorf("a service that was watched before: %+v, %v", got, err)
	}
	all.Wait()
	readings := 1 + int64(time.Since(began)/namesTTL)
	if n := f.reads.Load() - before; n > 3*readings+3 {
		t.Errorf("%d reads in %v", n, time.Since(began))
	}
	end()
	if got, err := f.lookup("web"); err != nil || len(got.Endpoints) != 1 {
		t.Errorf("then: %+v, %v", got, err)
	}
}

// A service that registers while all names are read counts as missing no longer than a second
// after that reading began.
func TestUnknownAsOfTheReading(t *testing.T) {
	t.Parallel()
	f, _ := lazily(t, Options{Watch: WatchLazy})
	defer f.exhaust()()
	began, read := make(chan struct{}), f.serviceNames.read
	var first sync.Once
	f.serviceNames.read = func(ctx context.Context) ([]string, error) {
		names, err := read(ctx)
		first.Do(func() {
			close(began)
			time.Sleep(missingTTL)
		})
		return names, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.lookup("web")
	}()
	<-began
	f.register("web", "a")
	<-done
	if got, err := f.lookup("web"); err != nil || len(got.Endpoints) != 1 {
		t.Errorf("a second after it registered: %+v, %v", got, err)
	}
}

// Names that cannot be read, for another reason than a refusal, fail no lookup while it can
// wait.
func TestUnknownNamesAfterAFailure(t *testing.T) {
	t.Parallel()
	f, _ := lazily(t, Options{Watch: WatchLazy})
	defer f.exhaust()()
	f.register("web", "a")
	read := f.serviceNames.read
	var first atomic.Bool
	f.serviceNames.read = func(ctx context.Context) ([]string, error) {
		if !first.Swap(true) {
			return nil, errors.New("etcdserver: request timed out")
		}
		return read(ctx)
	}
	if got, err := f.lookup("web"); err != nil || len(got.Endpoints) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

// A reading of names goes on when its caller gives up, and those that wait get its result.
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
				if got, err := n.list(t.Context()); err != nil || len(got.all) != 1 {
					t.Errorf("%v, %v", got, err)
				}
			})
		}
		all.Wait()
		if got := readings.Load(); got != 1 {
			t.Errorf("%d readings, want 1", got)
		}
	})
}

// Callers of names that are read again and again share no memory without a lock.
func TestNamesOfConcurrentReadings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := names{read: func(context.Context) ([]string, error) { return []string{"web"}, nil }}
		var all sync.WaitGroup
		for caller := range 10 {
			all.Go(func() {
				for range 10 {
					if got, err := n.list(t.Context()); err != nil || len(got.all) != 1 {
						t.Errorf("%v, %v", got, err)
					}
					time.Sleep(namesTTL/2 + time.Duration(caller))
				}
			})
		}
		all.Wait()
	})
}
