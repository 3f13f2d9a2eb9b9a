package kv

import (
	"fmt"
	"testing"
	"time"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
)

// BenchmarkScan lists a directory of a million keys from the cache.
func BenchmarkScan(b *testing.B) {
	const size = 1_000_000
	s := etcdtest.Must(New(nil, discovery.NewKeys("bench"), Options{}))
	next := s.state.Load().clone()
	for n := range size {
		next.put(Item{Key: s.prefix + fmt.Sprintf("scan/%07d", n), Value: []byte("1"), Revision: int64(n + 2)})
	}
	next.ranges = append(next.ranges, &cachedRange{Range: s.prefixRange("scan/"), revisions: revisions{listedAt: 2, deliveredUpTo: size + 1, lastChange: size + 1}})
	next.confirmed = time.Now()
	s.publish(next, false)
	for b.Loop() {
		items, _, err := s.List(b.Context(), "scan/", Read{})
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		for range items {
			n++
		}
		if n != size {
			b.Fatalf("%d keys, want %d", n, size)
		}
	}
}
