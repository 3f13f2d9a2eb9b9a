package view

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestPersistentMap compares persistent maps with Go maps while keys come and go: the
// newest one, and old ones, which must not have changed.
func TestPersistentMap(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	type version struct {
		tree *persistentMap[int]
		want map[string]int
	}
	now := version{want: map[string]int{}}
	var old []version
	for n := range 20_000 {
		key := fmt.Sprint(random.IntN(100 + n%700))
		if random.IntN(1000) < 350+n/200%2*300 { // it grows and shrinks by turns
			now.tree = now.tree.without(key)
			delete(now.want, key)
		} else {
			now.tree = now.tree.with(key, n)
			now.want[key] = n
		}
		if n%1000 == 0 {
			old = append(old, version{now.tree, maps.Clone(now.want)})
		}
		if now.tree.len() != len(now.want) {
			t.Fatalf("step %d: %d keys, want %d", n, now.tree.len(), len(now.want))
		}
	}
	for _, v := range append(old, now) {
		if got := maps.Collect(v.tree.all()); !maps.Equal(got, v.want) {
			t.Errorf("%v, want %v", got, v.want)
		}
		balanced(t, v.tree)
	}
	for key, value := range now.want {
		if got, ok := now.tree.get(key); !ok || got != value {
			t.Errorf("%q: %d, %v, want %d", key, got, ok, value)
		}
	}
	if _, ok := now.tree.get("x"); ok {
		t.Error("a key is there that was never put")
	}
}

// TestPersistentMapSorted puts keys in order, the worst case for a tree without balance.
func TestPersistentMapSorted(t *testing.T) {
	var all *persistentMap[int]
	var keys, want []string
	for n := range 3000 {
		key := fmt.Sprintf("%04d", n)
		all = all.with(key, n)
		keys = append(keys, key)
		if strings.HasPrefix(key, "12") {
			want = append(want, key)
		}
	}
	balanced(t, all)
	var got, some []string
	for key := range all.all() {
		got = append(got, key)
	}
	for key := range all.prefixed("12") {
		some = append(some, key)
	}
	if !slices.Equal(got, keys) || !slices.Equal(some, want) {
		t.Errorf("%d keys, and with the prefix %v", len(got), some)
	}
	for range all.values() {
		break // which must end it
	}
	for _, key := range keys {
		all = all.without(key)
		balanced(t, all)
	}
	if all != nil {
		t.Errorf("%d keys are left", all.len())
	}
}

// balanced fails unless a tree is balanced as its type requires.
func balanced(t *testing.T, of *persistentMap[int]) {
	t.Helper()
	if of == nil {
		return
	}
	l, r := of.left.len(), of.right.len()
	if of.size != l+1+r || l+r > 1 && (l > 3*r || r > 3*l) {
		t.Fatalf("a node of %d has %d and %d on its sides", of.size, l, r)
	}
	balanced(t, of.left)
	balanced(t, of.right)
}
