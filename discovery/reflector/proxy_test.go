package reflector

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// Reflectors behind etcd's grpc-proxy, which gives the second one the watches of the first, deliver
// every change, are confirmed, and do not compare with etcd again.
func TestBehindProxy(t *testing.T) {
	etcdtest.ForEachProxy(t, func(t *testing.T, program string) {
		etcd := etcdtest.Start(t)
		client := etcdtest.Client(t, etcd.Endpoint())
		proxy := etcdtest.StartProxy(t, program, etcd.Endpoint())
		put(t, client, "/epoch", "one")
		put(t, client, "/a/x", "before")
		var stores []*recordingStore
		var reflectors []*Reflector
		for range 3 {
			m := newRecordingStore()
			stores = append(stores, m)
			reflectors = append(reflectors, run(t, proxy.Endpoint(), m, Options{Ranges: []Range{Prefix("/a/"), Prefix("/b/")}, ProgressInterval: func() time.Duration { return 10 * time.Millisecond }}))
			retrytest.Eventually(t, "the first list", func() bool { return maps.Equal(m.holds(), map[string]string{"/a/x": "before"}) })
		}
		want := map[string]string{"/a/x": "before"}
		for round := range 10 {
			for _, key := range []string{"/a/x", "/b/y", fmt.Sprintf("/a/%d", round)} {
				want[key] = fmt.Sprint(round)
				put(t, client, key, want[key])
			}
			if round%2 == 1 {
				if _, err := client.Delete(t.Context(), "/b/y"); err != nil {
					t.Fatal(err)
				}
				delete(want, "/b/y")
			}
			put(t, client, "/elsewhere", "nobody watches it")
			for _, m := range stores {
				m.awaitConfirmed(t, time.Now(), want)
			}
		}
		for n, r := range reflectors {
			if h := r.Health(); h.Err != nil || h.Resyncs > 0 {
				t.Errorf("reflector %d: %+v", n, h)
			}
		}
	})
}
