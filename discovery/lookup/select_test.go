package lookup

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"disc/discovery"
	"disc/discovery/view"
	"disc/discovery/view/viewtest"
)

// zones is a service of three instances in each of two zones, one of each a suspect.
func zones(t *testing.T) *view.Snapshot {
	t.Helper()
	var changes []view.Change
	for n, id := range []string{"a1", "a2", "a3", "b1", "b2", "b3"} {
		changes = append(changes, viewtest.Put(int64(n), "web/instances/"+id, fmt.Sprintf(`"zone":%q`, id[:1])))
	}
	s, _, _ := view.EmptySnapshot().Apply(9, changes)
	web, _ := s.Service("web")
	for _, id := range []string{"a3", "b3"} {
		e, _ := web.Entry(id)
		e.Suspect = true
	}
	return s
}

func TestLookupOrder(t *testing.T) {
	tests := []struct {
		query Query
		want  string // the first character of each id, or s for a suspect
	}{
		{Query{Name: "web"}, "xxxxss"},
		{Query{Name: "web", PreferZone: "b"}, "bbaass"},
		{Query{Name: "web", PreferZone: "c"}, "xxxxss"},
		{Query{Name: "web", PreferZone: "a", Pick: 3}, "aab"},
		{Query{Name: "web", Pick: 5}, "xxxxs"},
		{Query{Name: "web", Pick: 100}, "xxxxss"},
	}
	s := zones(t)
	for _, tt := range tests {
		t.Run(tt.query.Name, func(t *testing.T) {
			for seed := range uint64(50) {
				tt.query.Rand = rand.New(rand.NewPCG(seed, 0))
				a, err := Lookup(s, tt.query)
				if err != nil {
					t.Fatal(err)
				}
				var got strings.Builder
				for n, e := range a.Endpoints {
					switch {
					case e.Suspect:
						got.WriteByte('s')
					case n < len(tt.want) && tt.want[n] == 'x':
						got.WriteByte('x')
					default:
						got.WriteByte(e.ID[0])
					}
				}
				if got.String() != tt.want {
					t.Fatalf("%+v: order %s (%v), want %s", tt.query, got.String(), a.Endpoints, tt.want)
				}
			}
		})
	}
	a, err := Lookup(s, Query{Name: "a3.web.inst", Explain: true})
	if err != nil || !a.Endpoints[0].Suspect || a.Explain[2].Why != "its status is passing; it vanished with many others and is kept until a probe fails" {
		t.Errorf("a suspect: %+v, %v", a, err)
	}
}

func TestLookupDeterministic(t *testing.T) {
	s := viewtest.SnapshotOf(viewtest.Fleet("web", 0, 50))
	order := func(seed uint64) Answer {
		a, err := Lookup(s, Query{Name: "web", Rand: rand.New(rand.NewPCG(seed, 0))})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if !reflect.DeepEqual(order(1), order(1)) {
		t.Error("one seed gives two orders")
	}
	if reflect.DeepEqual(order(1), order(2)) {
		t.Error("two seeds give one order")
	}
	a, err := Lookup(s, Query{Name: "web"})
	if err != nil || len(a.Endpoints) != 50 {
		t.Errorf("without a seed: %d endpoints, %v", len(a.Endpoints), err)
	}
}

// TestLookupWeights draws often and checks that each instance comes first as often as its
// weight requires, and second as often as the remaining weights require.
func TestLookupWeights(t *testing.T) {
	s, _, _ := view.EmptySnapshot().Apply(9, []view.Change{
		viewtest.Put(1, "web/instances/w1", `"weight":1`), viewtest.Put(2, "web/instances/w3", `"weight":3`),
		viewtest.Put(3, "web/instances/w6", `"weight":6`), viewtest.Put(4, "web/instances/w0", `"weight":0`),
	})
	const draws = 20_000
	first, second := map[string]float64{}, map[string]float64{}
	query := Query{Name: "web", Rand: rand.New(rand.NewPCG(1, 2))}
	for range draws {
		a, err := Lookup(s, query)
		if err != nil || len(a.Endpoints) != 3 {
			t.Fatal(a, err)
		}
		first[a.Endpoints[0].ID] += 1.0 / draws
		second[a.Endpoints[1].ID] += 1.0 / draws
	}
	for id, want := range map[string]float64{"w1": 0.1, "w3": 0.3, "w6": 0.6} {
		if got := first[id]; got < want-0.02 || got > want+0.02 {
			t.Errorf("%s came first in %.3f of all, want about %.3f", id, got, want)
		}
	}
	// w1 is second after w3 (0.3 × 1/7) or after w6 (0.6 × 1/4).
	if got := second["w1"]; got < 0.173 || got > 0.213 {
		t.Errorf("w1 came second in %.3f of all, want about 0.193", got)
	}
	query.Status = discovery.StatusAny
	for range 100 {
		if a, err := Lookup(s, query); err != nil || len(a.Endpoints) != 4 || a.Endpoints[3].ID != "w0" {
			t.Fatalf("weight 0 is not last: %+v, %v", a, err)
		}
	}
}

func TestLookupPick(t *testing.T) {
	s := viewtest.SnapshotOf(viewtest.Fleet("web", 0, 20))
	seen := map[string]bool{}
	query := Query{Name: "web", Pick: 2, Rand: rand.New(rand.NewPCG(3, 4))}
	for range 500 {
		a, err := Lookup(s, query)
		if err != nil || len(a.Endpoints) != 2 || a.Endpoints[0].ID == a.Endpoints[1].ID || a.LeftOut != nil {
			t.Fatalf("%+v, %v", a, err)
		}
		seen[a.Endpoints[0].ID] = true
	}
	if len(seen) != 20 {
		t.Errorf("500 picks met %d of 20", len(seen))
	}
}
