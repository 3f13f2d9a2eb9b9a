package reflector

import (
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/devetcd"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/etcd"
	"disc/discovery/life"
	"disc/discovery/retry/retrytest"
)

// watchers are reflectors of the same ranges, each with a store.
type watchers struct {
	t          *testing.T
	reflectors []*Reflector
	stores     []*recordingStore
	want       map[string]string // what etcd has in the ranges
	round      int
}

// watchThrough runs n reflectors at endpoints, each from when the one before has listed.
func watchThrough(t *testing.T, n int, endpoints ...string) *watchers {
	t.Helper()
	w := &watchers{t: t, want: map[string]string{}}
	for range n {
		m := newRecordingStore()
		client := etcdtest.Client(t, endpoints...)
		r := runOn(t, client, m, Options{Ranges: []Range{Prefix("/a/"), Prefix("/b/")}, Epoch: testKeys.Epoch(),
			Life: life.New(client, testKeys, life.Options{}), ProgressInterval: func() time.Duration { return 10 * time.Millisecond }})
		w.stores, w.reflectors = append(w.stores, m), append(w.reflectors, r)
		retrytest.Eventually(t, "the first list", func() bool { return r.Health().Synced })
	}
	return w
}

// change makes changes of all kinds, in the ranges and elsewhere.
func (w *watchers) change(client *clientv3.Client) {
	w.t.Helper()
	w.round++
	for _, key := range []string{"/a/x", "/b/y", fmt.Sprintf("/a/%d", w.round)} {
		w.want[key] = fmt.Sprint(w.round)
		put(w.t, client, key, w.want[key])
	}
	if w.round%2 == 1 {
		for _, key := range []string{"/a/x", "/b/y"} {
			if _, err := client.Delete(w.t.Context(), key); err != nil {
				w.t.Fatal(err)
			}
			delete(w.want, key)
		}
	}
	put(w.t, client, "/elsewhere", "nobody watches it")
}

// awaitConfirmed waits until all stores have what etcd has, and are confirmed to.
func (w *watchers) awaitConfirmed() {
	w.t.Helper()
	since := time.Now()
	for _, m := range w.stores {
		m.awaitConfirmed(w.t, since, w.want)
	}
}

// resyncs returns how often the reflectors have compared with etcd.
func (w *watchers) resyncs() (n int) {
	for _, r := range w.reflectors {
		n += r.Health().Resyncs
	}
	return n
}

// changeWithoutResync makes many changes, which the watches alone must deliver. It tries again where
// they do not, because a proxy that has no core for 50 ms ends a stream.
func (w *watchers) changeWithoutResync(client *clientv3.Client) {
	w.t.Helper()
	for left := 10; ; left-- {
		before := w.resyncs()
		for range 10 {
			w.change(client)
			w.awaitConfirmed()
		}
		if w.resyncs() == before {
			break
		}
		if left == 0 {
			w.t.Fatal("the reflectors compare with etcd again and again")
		}
	}
	for n, r := range w.reflectors {
		if err := r.Health().Err; err != nil {
			w.t.Errorf("reflector %d: %v", n, err)
		}
	}
}

// Reflectors behind etcd's grpc-proxy, which gives the second one the watches of the first, deliver
// every change, are confirmed, and do not compare with etcd again.
func TestBehindProxy(t *testing.T) {
	t.Parallel()
	etcdtest.ForEachProxy(t, func(t *testing.T, program string) {
		etcd := etcdtest.Start(t)
		proxy := etcdtest.StartProxy(t, program, etcd.Endpoint())
		w := watchThrough(t, 3, proxy.Endpoint())
		w.changeWithoutResync(etcdtest.Client(t, etcd.Endpoint()))
	})
}

// A wiped etcd behind a proxy, which the proxy's own watches do not notice, is found.
func TestWipedBehindProxy(t *testing.T) {
	t.Parallel()
	etcdtest.ForEachProxy(t, func(t *testing.T, program string) {
		etcd := etcdtest.Start(t)
		proxy := etcdtest.StartProxy(t, program, etcd.Endpoint())
		w := watchThrough(t, 3, proxy.Endpoint())
		w.change(etcdtest.Client(t, etcd.Endpoint()))
		w.awaitConfirmed()
		if err := etcd.Close(); err != nil {
			t.Fatal(err)
		}
		etcd = etcdtest.StartWith(t, devetcd.Options{Listen: etcd.Endpoint()})
		w.want = map[string]string{}
		client := etcdtest.Client(t, etcd.Endpoint())
		w.change(client)
		w.awaitConfirmed()
		w.changeWithoutResync(client)
	})
}

// What the proxy's own watches miss, because etcd has compacted it, is found. The proxy then goes on
// to give out these watches although they have ended.
func TestCompactedBehindProxy(t *testing.T) {
	t.Parallel()
	etcdtest.ForEachProxy(t, func(t *testing.T, program string) {
		server := etcdtest.Start(t)
		link := etcdtest.StartLink(t, server.Endpoint())
		proxy := etcdtest.StartProxy(t, program, link.Endpoint())
		w := watchThrough(t, 3, proxy.Endpoint())
		client := etcdtest.Client(t, server.Endpoint())
		w.changeWithoutResync(client)
		// A client that keeps its stream after a watch on it was canceled keeps the ended watch in the
		// proxy.
		other, err := etcd.OpenWatch(t.Context(), etcdtest.Client(t, proxy.Endpoint()).ActiveConnection())
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		for n, rng := range []Range{Prefix("/a/"), Prefix("/b/")} {
			other.Watch(int64(n), rng.From, rng.To, 1)
			<-other.Responses()
		}
		link.Freeze()
		w.change(client)
		if _, err := client.Compact(t.Context(), put(t, client, "/elsewhere", "")); err != nil {
			t.Fatal(err)
		}
		link.Cut()
		link.Mend()
		w.awaitConfirmed()
		w.changeWithoutResync(client)

		put(t, client, "/elsewhere", "")
		late := watchThrough(t, 3, proxy.Endpoint()) // their watches begin after the ended ones
		late.want, late.round = w.want, w.round
		late.change(client)
		late.awaitConfirmed()
		late.changeWithoutResync(client)
	})
}

// A reflector leaves a proxy that dies or hangs for the next endpoint, be that a proxy or etcd.
func TestProxyFails(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*etcdtest.Proxy){
		"killed":    (*etcdtest.Proxy).Kill,
		"suspended": (*etcdtest.Proxy).Pause,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			etcd := etcdtest.Start(t)
			client := etcdtest.Client(t, etcd.Endpoint())
			one, two := etcdtest.StartProxy(t, etcdtest.Bundled, etcd.Endpoint()), etcdtest.StartProxy(t, etcdtest.Bundled, etcd.Endpoint())
			w := watchThrough(t, 3, one.Endpoint(), two.Endpoint(), etcd.Endpoint())
			w.change(client)
			w.awaitConfirmed()
			for _, p := range []*etcdtest.Proxy{one, two} {
				fail(p)
				w.change(client)
				w.awaitConfirmed()
			}
			w.changeWithoutResync(client)
		})
	}
}

// laggingStore is a store during whose first replacement changes are made.
type laggingStore struct {
	*recordingStore
	change func()
}

func (s laggingStore) Replace(l *Listing) error {
	err := s.recordingStore.Replace(l)
	s.change()
	return err
}

// What the proxy leaves out, where etcd sends a watch that lags far behind its events in several
// responses, is found before the store is confirmed.
func TestLagsBehindProxy(t *testing.T) {
	t.Parallel()
	etcdtest.ForEachProxy(t, func(t *testing.T, program string) {
		server := etcdtest.Start(t)
		proxy, client := etcdtest.StartProxy(t, program, server.Endpoint()), etcdtest.Client(t, server.Endpoint())
		one := watchThrough(t, 1, proxy.Endpoint())
		const keys, writes = 50, 60
		write := sync.OnceFunc(func() {
			var writing sync.WaitGroup
			for n := range keys {
				key := fmt.Sprintf("/a/%d", n)
				one.want[key] = fmt.Sprint(writes - 1)
				writing.Go(func() {
					for m := range writes {
						if _, err := client.Put(t.Context(), key, fmt.Sprint(m)); err != nil {
							t.Error(err)
						}
					}
				})
			}
			writing.Wait()
		})
		late := newRecordingStore()
		runOn(t, etcdtest.Client(t, proxy.Endpoint()), laggingStore{late, write}, Options{Ranges: []Range{Prefix("/a/")},
			Epoch: testKeys.Epoch(), ProgressInterval: func() time.Duration { return 10 * time.Millisecond }})
		retrytest.Eventually(t, "the first events", func() bool { return len(late.holds()) == keys })
		one.want["/a/0"] = "last"
		put(t, client, "/a/0", "last")
		since := time.Now()
		retrytest.Eventually(t, "a confirmation", func() bool {
			late.mu.Lock()
			defer late.mu.Unlock()
			return late.last.Confirmed.After(since) && late.values["/a/0"] == "last"
		})
		if got := late.holds(); !maps.Equal(got, one.want) {
			t.Errorf("a confirmed store has %v, want %v", got, one.want)
		}
	})
}

// Behind a proxy all ranges are compared with etcd from time to time, in case that changes were left
// out without a sign.
func TestComparedBehindProxy(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	w := watchThrough(t, 1, etcdtest.StartProxy(t, etcdtest.Bundled, server.Endpoint()).Endpoint())
	w.changeWithoutResync(etcdtest.Client(t, server.Endpoint()))
	r, m := w.reflectors[0], w.stores[0]
	before := r.Health().Resyncs
	if err := r.Do(t.Context(), func() {
		m.mu.Lock()
		delete(m.values, "/a/2")
		m.revisions["/a/2"]--
		m.values["/b/gone"], m.revisions["/b/gone"] = "1", 1
		m.mu.Unlock()
		r.compareAt = time.Now()
	}); err != nil {
		t.Fatal(err)
	}
	w.awaitConfirmed()
	if n := r.Health().Resyncs - before; n > 0 {
		t.Errorf("it has watched anew %d times", n)
	}
}

// A wide range is compared with etcd together with the ranges in it that have watches of their own,
// and single ranges are when they have taken its place.
func TestComparedNested(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	w := watchThrough(t, 1, etcdtest.StartProxy(t, etcdtest.Bundled, server.Endpoint()).Endpoint())
	client, r := etcdtest.Client(t, server.Endpoint()), w.reflectors[0]
	wide := Range{"/a/", "/d"}
	if _, err := r.Add(t.Context(), wide, true); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := r.Do(t.Context(), func() {
			for _, w := range r.ranges {
				w.uncertain = true
			}
		}); err != nil {
			t.Fatal(err)
		}
		w.change(client)
		w.awaitConfirmed()
	}
	single := []Range{Prefix("/a/"), Prefix("/b/")}
	if err := r.Narrow(t.Context(), wide, func() []Range {
		w.stores[0].drop(single...)
		return single
	}); err != nil {
		t.Fatal(err)
	}
	w.changeWithoutResync(client)
}

// A range is requested in another way only from the endpoint that does not deliver it.
func TestSpellingOfEndpoint(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	client := etcdtest.Client(t, etcdtest.StartProxy(t, etcdtest.Bundled, server.Endpoint()).Endpoint(), server.Endpoint())
	r := New(client, newRecordingStore(), Options{})
	for _, want := range []int{0, 0, 1, 0} {
		if err := r.connect(t.Context(), client); err != nil {
			t.Fatal(err)
		}
		if got := r.spellings[r.endpoint]; got != want {
			t.Errorf("%d at %s, want %d", got, r.endpoint, want)
		}
		if len(r.spellings) == 0 {
			r.spellings[r.endpoint]++
		}
		r.disconnect()
	}
}

// All ways to request a range cover its keys and no others, and differ where they can.
func TestSpelled(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		Range
		want    int // ways
		in, out []string
	}{
		{Prefix("/a/"), spellings, []string{"/a/1", "/a/ÿ", "/a/\xff\xff"}, []string{"/a", "/a0"}},
		{Range{"/a/b", "/a/b\x00"}, 2, []string{"/a/b"}, []string{"/a/", "/a/b1"}},
		{Range{"/a", "/c"}, spellings, []string{"/a", "/b/c", "/b\xff"}, []string{"/", "/c"}},
	} {
		t.Run(test.From, func(t *testing.T) {
			ways := map[Range]bool{}
			for n := range 2 * spellings {
				from, to := test.spelled(n)
				r := Range{from, to}
				ways[r] = true
				if to == "" {
					r.To = from + "\x00"
				}
				for _, key := range test.in {
					if !r.Contains(key) {
						t.Errorf("way %d, %q, lacks %q", n, r, key)
					}
				}
				for _, key := range test.out {
					if r.Contains(key) {
						t.Errorf("way %d, %q, has %q", n, r, key)
					}
				}
			}
			if len(ways) != test.want {
				t.Errorf("%d ways, want %d", len(ways), test.want)
			}
		})
	}
}

// Behind a proxy, too, a wider range takes the place of those in it, single ranges take its place
// again, and one that is removed is not watched any more.
func TestRangesBehindProxy(t *testing.T) {
	t.Parallel()
	etcdtest.ForEachProxy(t, func(t *testing.T, program string) {
		server := etcdtest.Start(t)
		w := watchThrough(t, 1, etcdtest.StartProxy(t, program, server.Endpoint()).Endpoint())
		client, r := etcdtest.Client(t, server.Endpoint()), w.reflectors[0]
		wide := Range{"/a/", "/d"}
		if _, err := r.Add(t.Context(), wide, true); err != nil {
			t.Fatal(err)
		}
		w.want["/c/1"] = "one"
		put(t, client, "/c/1", "one")
		w.changeWithoutResync(client)
		retrytest.Eventually(t, "the wide range to take the place of the others", func() (alone bool) {
			return r.Do(t.Context(), func() { alone = len(r.ranges) == 1 && len(r.ranges[0].nested) == 0 }) == nil && alone
		})
		single := []Range{Prefix("/a/"), Prefix("/b/")}
		if err := r.Narrow(t.Context(), wide, func() []Range { w.stores[0].drop(single...); return single }); err != nil {
			t.Fatal(err)
		}
		delete(w.want, "/c/1")
		put(t, client, "/c/1", "two")
		w.changeWithoutResync(client)
		if err := r.Remove(t.Context(), single[1], func() { w.stores[0].drop(single[0]) }); err != nil {
			t.Fatal(err)
		}
		delete(w.want, "/b/y")
		put(t, client, "/b/y", "it is not watched")
		w.want["/a/x"] = "last"
		put(t, client, "/a/x", "last")
		w.awaitConfirmed()
	})
}
