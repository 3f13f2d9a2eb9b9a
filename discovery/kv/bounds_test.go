package kv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// The keys of a directory that does not fit into the cache are read from etcd. The directory
// itself is not read to its end, nor again at once; what is refused says so.
func TestTooLargeToCache(t *testing.T) {
	t.Parallel()
	const most, values, size = 1 << 20, 64, 256 << 10
	s := etcdtest.Start(t)
	link := etcdtest.StartLink(t, s.Endpoint())
	f := start(t, s.Endpoint(), link.Endpoint(), Options{MaxCachedBytes: most})
	for n := range values {
		f.put(fmt.Sprintf("large/%02d", n), strings.Repeat("x", size))
	}
	f.put("small/a", "1")
	before := link.Received()
	for range 20 {
		i, fresh, err := f.Get(t.Context(), "large/07", Read{})
		if err != nil || len(i.Value) != size || fresh.Epoch != "" {
			t.Fatalf("%d bytes, %+v, %v; want etcd's answer", len(i.Value), fresh, err)
		}
	}
	if read := link.Received() - before; read > (values/2+20)*size {
		t.Errorf("%d bytes were read for a key of %d", read, size)
	}
	for _, r := range []Read{{}, {Linearizable: true}} {
		if _, _, err := f.List(t.Context(), "large/", r); !errors.Is(err, discovery.ErrInvalid) || !strings.Contains(err.Error(), fmt.Sprint("more than ", most, " bytes")) || !strings.Contains(err.Error(), "a longer prefix") {
			t.Errorf("listed with %+v: %v", r, err)
		}
	}
	if got := f.keys("large/", Read{KeysOnly: true}); len(got) != values || got[7] != "large/07" {
		t.Errorf("%v", got)
	}
	if _, _, err := f.Snapshot(t.Context(), "large/"); !errors.Is(err, discovery.ErrInvalid) || !strings.Contains(err.Error(), "watch a longer prefix") {
		t.Errorf("watched: %v", err)
	}
	items, fresh, err := f.Snapshot(t.Context(), "large/07") // the key alone
	if err != nil || len(slices.Collect(items)) != 1 || fresh.Epoch == "" {
		t.Errorf("watched: %+v, %v", fresh, err)
	}
	f.get("small/a", Read{})
	if now := f.state.Load(); len(now.ranges) != 2 || now.items.Len() != 2 {
		t.Errorf("%d ranges with %d items, want the small directory and the key", len(now.ranges), now.items.Len())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.loaded != 0 || f.lists.used != 0 {
		t.Errorf("%d and %d bytes count as being read after all was", f.loaded, f.lists.used)
	}
}

// What did not fit is tried again after a time that grows.
func TestRefusalsGrow(t *testing.T) {
	f := etcdtest.Must(New(nil, discovery.NewKeys("test"), Options{}))
	large := f.prefixRange("large/")
	var minutes []float64
	for range 9 {
		f.refuse(large, "it is large")
		minutes = append(minutes, f.refused[large].wait.Minutes())
		if f.whyRefused(large) != "it is large" || f.whyRefused(f.prefixRange("small/")) != "" {
			t.Error("another range is refused")
		}
		f.refused[large].until = time.Now()
	}
	if f.whyRefused(large) != "" {
		t.Error("it is never tried again")
	}
	if want := []float64{1, 2, 4, 8, 16, 32, 60, 60, 60}; !slices.Equal(minutes, want) {
		t.Errorf("%v minutes, want %v", minutes, want)
	}
}

// A cached directory that grows too large is dropped. Its keys are still read.
func TestGrowsTooLarge(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{MaxCachedBytes: 100 << 10})
	f.put("small/a", "1")
	f.put("growing/a", "1")
	f.get("growing/a", Read{})
	f.get("small/a", Read{})
	last := f.put("growing/b", strings.Repeat("x", 200<<10))
	retrytest.Eventually(t, "it is dropped", func() bool {
		f.get("small/a", Read{})
		now := f.state.Load()
		return now.size < 100<<10 && now.find(f.prefixRange("growing/")) == nil
	})
	if i := f.get("growing/b", Read{MinRevision: last}); len(i.Value) != 200<<10 {
		t.Errorf("%d bytes", len(i.Value))
	}
}

// However many directories are read, a bounded number is cached: those that are used. Of the
// others, the keys are read from etcd.
func TestManyDirectories(t *testing.T) {
	t.Parallel()
	const most = 8
	s := etcdtest.Start(t)
	f := startWithin(t, s.Endpoint(), s.Endpoint(), Options{}, bounds{ranges: most, inUse: 500 * time.Millisecond, emptyTimeout: time.Hour, check: time.Hour})
	var ops []Op
	for n := range 5 * most {
		ops = append(ops, Op{Key: fmt.Sprintf("d%d/k", n), Value: []byte(fmt.Sprint(n))})
	}
	if _, err := f.Write(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
	for n := range 5 * most {
		if i := f.get(fmt.Sprintf("d%d/k", n), Read{}); string(i.Value) != fmt.Sprint(n) {
			t.Errorf("%+v", i)
		}
		if now := f.state.Load(); len(now.ranges) > most {
			t.Fatalf("%d ranges are cached, want at most %d", len(now.ranges), most)
		}
	}
	waited := make(chan error, 1)
	go func() { // in a directory that is to be evicted
		i, fresh, err := f.Get(t.Context(), "d1/k", Read{})
		for err == nil && string(i.Value) == "1" {
			if err = f.AwaitChange(t.Context(), "d1/k", fresh); err == nil {
				i, fresh, err = f.Get(t.Context(), "d1/k", Read{})
			}
		}
		waited <- err
	}()
	retrytest.Eventually(t, "another is cached in place of one that is not used", func() bool {
		_, fresh, err := f.Get(t.Context(), fmt.Sprintf("d%d/k", 5*most-1), Read{})
		return err == nil && fresh.Epoch != ""
	})
	if now := f.state.Load(); len(now.ranges) > most || now.items.Len() != len(now.ranges) {
		t.Errorf("%d ranges with %d items are cached, want at most %d", len(now.ranges), now.items.Len(), most)
	}
	f.put("d1/k", "new")
	if err := <-waited; err != nil {
		t.Error(err)
	}
}

// A directory without keys is dropped soon, unless somebody watches or waits for one.
func TestEmptyDirectories(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := startWithin(t, s.Endpoint(), s.Endpoint(), Options{}, bounds{ranges: 99, inUse: time.Hour, emptyTimeout: 100 * time.Millisecond, check: 20 * time.Millisecond})
	f.put("full/a", "1")
	f.get("full/a", Read{})
	for n := range 20 {
		if _, _, err := f.Get(t.Context(), fmt.Sprintf("empty%d/a", n), Read{}); !errors.Is(err, discovery.ErrNotFound) {
			t.Fatal(err)
		}
	}
	release := f.Watch("watched/")
	_, fresh, err := f.Snapshot(t.Context(), "watched/")
	if err != nil {
		t.Fatal(err)
	}
	handOver := f.wait("awaited/a") // until AwaitChange waits, however late that is
	_, seen, err := f.Get(t.Context(), "awaited/a", Read{})
	if !errors.Is(err, discovery.ErrNotFound) {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() { waited <- f.AwaitChange(t.Context(), "awaited/a", seen) }()
	retrytest.Eventually(t, "AwaitChange waits", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.interestIn("awaited/a").waiters == 2
	})
	handOver()
	retrytest.Eventually(t, "the others are dropped", func() bool {
		now := f.state.Load()
		return len(now.ranges) == 3 && now.find(f.prefixRange("full/")) != nil && now.find(f.prefixRange("watched/")) != nil && now.find(f.prefixRange("awaited/")) != nil
	})
	f.put("awaited/a", "1")
	if err := <-waited; err != nil {
		t.Error(err)
	}
	last := f.put("watched/a", "1")
	f.get("watched/a", Read{MinRevision: last})
	events, _, ok := f.Events("watched/", discovery.Cursor{Epoch: fresh.Epoch, Revision: fresh.Revision})
	if !ok || len(events) != 1 || events[0].Revision != last {
		t.Errorf("%v %v", events, ok)
	}
	release()
}

// Whoever waits learns of a change of what is cached, of what is not, and of what cannot be.
func TestAwaitChange(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{MaxCachedBytes: 10 << 10})
	f.put("large/a", strings.Repeat("x", 20<<10))
	for name, test := range map[string]struct {
		read Read
		what string
		key  string
		op   Op
	}{
		"cached":                   {Read{}, "app/a", "app/a", Op{}},
		"cached and absent":        {Read{}, "app/none", "app/none", Op{}},
		"cached and deleted":       {Read{}, "app/b", "app/b", Op{Delete: true}},
		"linearizable":             {Read{Linearizable: true}, "app/c", "app/c", Op{}},
		"linearizable, not cached": {Read{Linearizable: true}, "other/a", "other/a", Op{}},
		"linearizable and deleted": {Read{Linearizable: true}, "third/a", "third/a", Op{Delete: true}},
		"too large":                {Read{}, "large/b", "large/b", Op{}},
		"a prefix":                 {Read{}, "dir/", "dir/a", Op{}},
		"a prefix, not cached":     {Read{Linearizable: true}, "dir2/", "dir2/a", Op{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			op := test.op
			if op.Key = test.key; op.Delete {
				f.put(op.Key, "1")
			}
			var fresh Freshness
			var err error
			if isPrefix(test.what) {
				_, fresh, err = f.List(t.Context(), test.what, test.read)
			} else if _, fresh, err = f.Get(t.Context(), test.what, test.read); errors.Is(err, discovery.ErrNotFound) {
				err = nil
			}
			if err != nil {
				t.Fatal(err)
			}
			short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			for short.Err() == nil { // a change of another key may wake it
				if err := f.AwaitChange(short, test.what, fresh); err != nil && short.Err() == nil {
					t.Fatal(err)
				}
			}
			waited := make(chan error, 1)
			go func() { waited <- f.AwaitChange(t.Context(), test.what, fresh) }()
			if _, err := f.Write(t.Context(), op); err != nil {
				t.Fatal(err)
			}
			if err := <-waited; err != nil {
				t.Error(err)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.eventLog.interests[test.what] != nil {
				t.Error("it is still waited for")
			}
		})
	}
}
