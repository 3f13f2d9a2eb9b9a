package lookup

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"disc/discovery"
	"disc/discovery/retry/retrytest"
	"disc/discovery/view"
	"disc/discovery/view/viewtest"
)

// plain returns the ids that a lookup of the name alone answers with, in the order of
// Eligible.
func plain(t *testing.T, s *view.Snapshot, service string) []string {
	t.Helper()
	a, err := Lookup(s, Query{Name: service})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(a.Endpoints, func(a, b discovery.Endpoint) int {
		if a.Suspect != b.Suspect {
			return map[bool]int{true: 1, false: -1}[a.Suspect]
		}
		return strings.Compare(a.ID, b.ID)
	})
	all := []string{}
	for _, e := range a.Endpoints {
		all = append(all, e.ID)
	}
	return all
}

func idsOf(entries []*view.Entry) []string {
	all := []string{}
	for _, e := range entries {
		all = append(all, e.ID)
	}
	return all
}

// TestEligibleAgrees compares Eligible with Lookup over random changes, some of which bring
// suspects, until each kind of difference from the entries was met.
func TestEligibleAgrees(t *testing.T) {
	var shared, shorter, reordered, weightless int
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 2))
		s := view.EmptySnapshot()
		for revision := int64(1); revision <= 200; revision++ {
			c := viewtest.RandomChange(r, revision)
			c.Suspect = r.IntN(4) == 0
			s, _, _ = s.Apply(revision, []view.Change{c})
			for service := range s.Services() {
				got := service.Eligible()
				if want := plain(t, s, service.Name); !slices.Equal(idsOf(got), want) {
					t.Fatalf("seed %d, revision %d: %s: eligible %v, lookup answers %v", seed, revision, service.Name, idsOf(got), want)
				}
				switch {
				case len(got) > 0 && got[0].Weight == 0:
					weightless++
				case len(got) < len(service.Entries()):
					shorter++
				case !slices.Equal(got, service.Entries()):
					reordered++
				default:
					shared++
				}
			}
		}
	}
	if shared == 0 || shorter == 0 || reordered == 0 || weightless == 0 {
		t.Errorf("never met: shared %d, shorter %d, reordered %d, weightless %d", shared, shorter, reordered, weightless)
	}
}

func TestEligibleSharesMemory(t *testing.T) {
	web, _ := viewtest.SnapshotOf(viewtest.Fleet("web", 0, 10)).Service("web")
	if got, shown := web.Eligible(), web.Entries(); len(got) != 10 || &got[0] != &shown[0] {
		t.Errorf("all are eligible, and the slice is another: %v, %v", idsOf(got), idsOf(shown))
	}
}

func TestEligibleCountsAsLookup(t *testing.T) {
	web, _ := viewtest.SnapshotOf(viewtest.Fleet("web", 0, 1)).Service("web")
	if web.ConsumeUsed() {
		t.Error("used before a lookup")
	}
	if web.Eligible(); !web.ConsumeUsed() {
		t.Error("looked up, and not used")
	}
}

func TestEligibleAllocatesNothing(t *testing.T) {
	const long = "a-service-whose-name-is-as-long-as-a-name-of-a-service-may-beee"
	if len(long) != discovery.MaxName {
		t.Fatalf("the long name has %d bytes, want %d", len(long), discovery.MaxName)
	}
	s := viewtest.SnapshotOf(slices.Concat(viewtest.Fleet("web", 0, 10), viewtest.Fleet(long, 0, 10)))
	for _, name := range []string{"web", long} {
		t.Run(name, func(t *testing.T) {
			if n := retrytest.Allocations(1000, func() {
				if service, ok := s.Service(name); !ok || len(service.Eligible()) != 10 {
					t.Errorf("%s is not eligible", name)
				}
			}); n != 0 {
				t.Errorf("%s: %v allocations", name, n)
			}
		})
	}
}

func BenchmarkEligible(b *testing.B) {
	for _, n := range []int{10, 1000} {
		s := viewtest.SnapshotOf(viewtest.Fleet("web", 0, n))
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if service, ok := s.Service("web"); !ok || len(service.Eligible()) != n {
					b.Fatal("web is not answering")
				}
			}
		})
	}
}
