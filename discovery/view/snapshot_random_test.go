package view_test

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"disc/discovery"
	"disc/discovery/retry/retrytest"
	"disc/discovery/view"
	"disc/discovery/view/viewtest"
)

// TestApplyRandom applies random batches. After each, the snapshot equals one that is made
// from the keys that are left, the previous one is unchanged, and a reader of events alone
// knows the same instances.
func TestApplyRandom(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		s, keys, told := view.EmptySnapshot(), map[discovery.Key]view.Change{}, map[string]*view.Entry{}
		for revision := int64(1); revision <= 100; {
			var batch []view.Change
			for range 1 + r.IntN(6) {
				c := viewtest.RandomChange(r, revision)
				if earlier, ok := keys[c.Key]; ok && c.Value != nil {
					c.Created = earlier.Created
				}
				batch, revision = append(batch, c), revision+1
				keys[c.Key] = c
				if c.Value == nil {
					delete(keys, c.Key)
				}
			}
			before := viewtest.Dump(t, s)
			next, events, _ := s.Apply(revision, batch)
			if after := viewtest.Dump(t, s); after != before {
				t.Fatalf("seed %d, revision %d: Apply changed its receiver from\n%s\nto\n%s", seed, revision, before, after)
			}
			scratch, _, _ := view.EmptySnapshot().Apply(revision, slices.Collect(maps.Values(keys)))
			if got, want := viewtest.Dump(t, next), viewtest.Dump(t, scratch); got != want {
				t.Fatalf("seed %d, revision %d: after %+v\n%s\nwant\n%s", seed, revision, batch, got, want)
			}
			compareKeys(t, keys, next)
			for _, e := range events {
				told[e.Service+"/"+e.ID] = e.Entry
			}
			compareEvents(t, told, next)
			compareChanged(t, s, next, batch)
			s = next
		}
	}
}

// compareKeys checks that a snapshot yields the keys that it was made of: all that are left
// and can be decoded.
func compareKeys(t *testing.T, keys map[discovery.Key]view.Change, s *view.Snapshot) {
	t.Helper()
	want := map[discovery.Key]int64{}
	for key, c := range keys {
		if _, _, broken := view.EmptySnapshot().Apply(1, []view.Change{c}); broken == nil {
			want[key] = c.Modified
		}
	}
	if got := maps.Collect(s.Keys()); !reflect.DeepEqual(got, want) {
		t.Fatalf("keys are %v, want %v", got, want)
	}
}

// compareEvents checks that the events had all entries, except their utilization.
func compareEvents(t *testing.T, told map[string]*view.Entry, s *view.Snapshot) {
	t.Helper()
	shown := map[string]*view.Entry{}
	for service := range s.Services() {
		for _, e := range service.Entries() {
			shown[e.Service+"/"+e.ID] = unloaded(e)
		}
	}
	maps.DeleteFunc(told, func(_ string, e *view.Entry) bool { return e == nil })
	for id, e := range told {
		told[id] = unloaded(e)
	}
	if !reflect.DeepEqual(told, shown) {
		t.Fatalf("events had %v, shown are %v", told, shown)
	}
}

// compareChanged checks that of two snapshots the instances that differ, and no others than those
// of the batch between them, have changed.
func compareChanged(t *testing.T, before, after *view.Snapshot, batch []view.Change) {
	t.Helper()
	type name struct{ service, id string }
	changed := map[name]bool{}
	for service, id := range after.ChangedSince(before) {
		changed[name{service, id}] = true
	}
	back := map[name]bool{}
	for service, id := range before.ChangedSince(after) {
		back[name{service, id}] = true
	}
	if !maps.Equal(changed, back) {
		t.Fatalf("%v have changed, and backwards %v", changed, back)
	}
	batched := map[name]bool{}
	for _, c := range batch {
		n := name{c.Key.Service, c.Key.ID}
		batched[n] = true
		if !changed[n] && stateOf(before, c.Key) != stateOf(after, c.Key) {
			t.Fatalf("%v has changed from %s to %s", n, stateOf(before, c.Key), stateOf(after, c.Key))
		}
	}
	for n := range changed {
		if !batched[n] {
			t.Fatalf("%v has not changed", n)
		}
	}
}

// stateOf describes an instance in a snapshot.
func stateOf(s *view.Snapshot, key discovery.Key) string {
	service, ok := s.Service(key.Service)
	if !ok {
		service = new(view.Service)
	}
	record, _ := service.Record(key.ID)
	entry, _ := service.Entry(key.ID)
	text, _ := json.Marshal([]any{record, entry})
	return string(text)
}

// unloaded returns an entry without its utilization.
func unloaded(e *view.Entry) *view.Entry {
	of := *e
	of.Utilization = nil
	return &of
}

// TestApplyCost keeps a change to one service from costing more in a large catalog:
// only the path to the service in the tree may be longer.
func TestApplyCost(t *testing.T) {
	change := viewtest.Fleet("service-0", 3, 1)
	allocs := func(services int) float64 {
		s := viewtest.Services(services)
		return retrytest.Allocations(100, func() { s.Apply(1, change) })
	}
	one, many := allocs(1), allocs(20_000)
	if many > one+20 {
		t.Errorf("a change allocates %v times in a catalog of 20,000 services and %v times in one of a single service", many, one)
	}
}
