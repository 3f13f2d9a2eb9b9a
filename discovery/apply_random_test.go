package discovery

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// dump writes all that readers see of a snapshot, but for services that are empty and
// for revisions, which tell when and not what.
func dump(t *testing.T, s *Snapshot) string {
	t.Helper()
	var b strings.Builder
	for service := range s.Services() {
		if service.Empty() {
			continue
		}
		fmt.Fprintf(&b, "%s %d healthy %d leaving\n", FoldName(service.Name), service.Healthy(), service.leaving)
		for _, e := range service.Entries() {
			text, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "  %s\n", text)
		}
		for _, at := range service.slots {
			if r, ok := service.Record(at.id); ok {
				fmt.Fprintf(&b, "  record %s %d %d %d\n", r.Encode(), r.Created, r.Modified, r.Lease)
			}
		}
	}
	for n := range s.Nodes() {
		fmt.Fprintf(&b, "%+v\n", *n)
	}
	return b.String()
}

// randomChange writes or deletes one of a few keys, now and then with a value that
// cannot be read.
func randomChange(r *rand.Rand, revision int64) Change {
	service, id := []string{"web", "api", "db"}[r.IntN(3)], []string{"a", "b", "c", "d", "e"}[r.IntN(5)]
	key := fmt.Sprintf("%s/%s/%s", service, []string{"instances", "instances", "static", "overrides", "load"}[r.IntN(5)], id)
	if r.IntN(8) == 0 {
		key = "nodes/host-" + id + "/agent"
	}
	switch r.IntN(10) {
	case 0, 1, 2:
		return remove(revision, key)
	case 3:
		return raw(put(revision, key, ``), `{"weight":-1,"utilization":-1}`)
	}
	if strings.Contains(key, "/load/") {
		return put(revision, key, fmt.Sprintf(`"utilization":0.%d`, r.IntN(9)))
	}
	fields := fmt.Sprintf(`"weight":%d`, r.IntN(5))
	if strings.Contains(key, "/overrides/") {
		fields += fmt.Sprintf(`,"state":%q`, []State{Up, Drain, Down}[r.IntN(3)])
	} else if strings.Contains(key, "/instances/") {
		fields += fmt.Sprintf(`,"status":%q,"leaving":%t,"meta":{"k":"%d"}`, []Status{Passing, Critical}[r.IntN(2)], r.IntN(4) == 0, r.IntN(3))
	}
	return put(revision, key, fields)
}

// TestApplyRandom applies random batches. After each, the snapshot is what one made
// from the keys that are left is, the one before is as it was, and a reader of events
// alone knows the same instances.
func TestApplyRandom(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		s, keys, told := EmptySnapshot(), map[Key]Change{}, map[string]*Entry{}
		for revision := int64(1); revision <= 100; {
			var batch []Change
			for range 1 + r.IntN(6) {
				c := randomChange(r, revision)
				if earlier, ok := keys[c.Key]; ok && c.Value != nil {
					c.Created = earlier.Created
				}
				batch, revision = append(batch, c), revision+1
				keys[c.Key] = c
				if c.Value == nil {
					delete(keys, c.Key)
				}
			}
			before := dump(t, s)
			next, events, _ := s.Apply(revision, batch)
			if after := dump(t, s); after != before {
				t.Fatalf("seed %d, revision %d: Apply changed its receiver from\n%s\nto\n%s", seed, revision, before, after)
			}
			scratch, _, _ := EmptySnapshot().Apply(revision, slices.Collect(maps.Values(keys)))
			if got, want := dump(t, next), dump(t, scratch); got != want {
				t.Fatalf("seed %d, revision %d: after %+v\n%s\nwant\n%s", seed, revision, batch, got, want)
			}
			compareKeys(t, keys, next)
			for _, e := range events {
				told[e.Service+"/"+e.ID] = e.Entry
			}
			compareTold(t, told, next)
			s = next
		}
	}
}

// compareKeys looks whether a snapshot tells the keys that it was made of: all that are
// left and can be read.
func compareKeys(t *testing.T, keys map[Key]Change, s *Snapshot) {
	t.Helper()
	want := map[Key]int64{}
	for key, c := range keys {
		if _, _, broken := EmptySnapshot().Apply(1, []Change{c}); broken == nil {
			want[key] = c.Modified
		}
	}
	if got := maps.Collect(s.Keys()); !reflect.DeepEqual(got, want) {
		t.Fatalf("keys are %v, want %v", got, want)
	}
}

// compareTold looks whether events told all that is shown, but for the utilization.
func compareTold(t *testing.T, told map[string]*Entry, s *Snapshot) {
	t.Helper()
	shown := map[string]*Entry{}
	for service := range s.Services() {
		for _, e := range service.Entries() {
			shown[e.Service+"/"+e.ID] = unloaded(e)
		}
	}
	maps.DeleteFunc(told, func(_ string, e *Entry) bool { return e == nil })
	for id, e := range told {
		told[id] = unloaded(e)
	}
	if !reflect.DeepEqual(told, shown) {
		t.Fatalf("events told %v, shown are %v", told, shown)
	}
}

// unloaded is an entry without its utilization.
func unloaded(e *Entry) *Entry {
	of := *e
	of.Utilization = nil
	return &of
}

// TestApplyCost keeps a change to one service from costing more in a large catalog:
// only the path to the service in the tree may be longer.
func TestApplyCost(t *testing.T) {
	change := fleet("service-0", 3, 1)
	allocs := func(services int) float64 {
		s := catalogOf(services)
		return testing.AllocsPerRun(100, func() { s.Apply(1, change) })
	}
	one, many := allocs(1), allocs(20_000)
	if many > one+20 {
		t.Errorf("a change allocates %v times in a catalog of 20,000 services and %v times in one of a single service", many, one)
	}
}
