package view

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestPersistentMapDiff compares the differences of maps with those of Go maps: of a map and one made
// from it by some changes, of maps made apart, and of the empty map.
func TestPersistentMapDiff(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	change := func(m *persistentMap[int], changes int) *persistentMap[int] {
		for range changes {
			if key := fmt.Sprint(random.IntN(500)); random.IntN(2) == 0 {
				m = m.without(key)
			} else {
				m = m.with(key, 1+random.IntN(3))
			}
		}
		return m
	}
	all := []*persistentMap[int]{nil}
	for n := range 60 {
		from := all[random.IntN(len(all))]
		all = append(all, change(from, 1+n%7*n))
	}
	for _, m := range all {
		for _, other := range all {
			compareDiff(t, m, other)
		}
	}
}

func compareDiff(t *testing.T, m, other *persistentMap[int]) {
	t.Helper()
	type pair struct{ value, others int }
	got, want, keys := map[string]pair{}, map[string]pair{}, []string(nil)
	m.diff(other, func(key string, value, others int) bool {
		got[key], keys = pair{value, others}, append(keys, key)
		return true
	})
	mine, theirs := maps.Collect(m.all()), maps.Collect(other.all())
	for key := range mine {
		want[key] = pair{mine[key], theirs[key]}
	}
	for key := range theirs {
		want[key] = pair{mine[key], theirs[key]}
	}
	maps.DeleteFunc(want, func(_ string, p pair) bool { return p.value == p.others })
	if !maps.Equal(got, want) || len(keys) != len(want) || !slices.IsSorted(keys) {
		t.Fatalf("the difference of %v and %v is %v %v, want %v", mine, theirs, keys, got, want)
	}
	yielded := 0
	m.diff(other, func(string, int, int) bool { yielded++; return false })
	if yielded != min(1, len(want)) {
		t.Fatalf("%d keys after the end", yielded)
	}
}
