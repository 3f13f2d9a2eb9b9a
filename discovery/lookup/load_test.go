package lookup

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"disc/discovery"
	"disc/discovery/view"
	"disc/discovery/view/viewtest"
)

func TestDecodeLoad(t *testing.T) {
	for _, text := range []string{`{"utilization":0}`, `{"utilization":0.7,"rps":5}`, `{"utilization":1.5}`} {
		t.Run(text, func(t *testing.T) {
			l, err := discovery.DecodeLoadReport([]byte(text))
			if err != nil {
				t.Errorf("%s: %v", text, err)
				return
			}
			if again, err := discovery.DecodeLoadReport(l.Encode()); err != nil || *again.Utilization != *l.Utilization {
				t.Errorf("%s: written and read it is %+v, %v", text, again, err)
			}
		})
	}
	for text, want := range map[string]string{
		`{}`: "utilization is missing", `{"utilization":null}`: "utilization is missing", `{"utilization":-0.1}`: "utilization -0.1 is out of range",
		`{"utilization":"x"}`: "decode load report", `[]`: "decode load report", ``: "decode load report",
	} {
		t.Run(text, func(t *testing.T) {
			if _, err := discovery.DecodeLoadReport([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %s", text, err, want)
			}
		})
	}
	for _, u := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		t.Run(fmt.Sprint(u), func(t *testing.T) {
			if (discovery.LoadReport{Utilization: &u}).Validate() == nil {
				t.Errorf("utilization %v is taken", u)
			}
		})
	}
}

func TestLoadDiffers(t *testing.T) {
	for _, tt := range []struct {
		a, b float64
		want bool
	}{{0.2, 0.3, true}, {0.3, 0.2, true}, {0.7, 0.8, true}, {0.1, 0.199, false}, {0.5, 0.5, false}, {1.9, 2, true}} {
		t.Run(fmt.Sprint(tt.a), func(t *testing.T) {
			if discovery.LoadDiffers(tt.a, tt.b) != tt.want {
				t.Errorf("%v and %v differ: %v", tt.a, tt.b, !tt.want)
			}
		})
	}
}

// loaded is a service whose instances i0, i1… have the given weights and utilizations; a
// utilization below 0 is not reported.
func loaded(weights []int, loads ...float64) *view.Snapshot {
	var changes []view.Change
	for n, weight := range weights {
		changes = append(changes, viewtest.Put(1, fmt.Sprintf("web/instances/i%d", n), fmt.Sprintf(`"weight":%d`, weight)))
		if loads[n] >= 0 {
			changes = append(changes, viewtest.Put(1, fmt.Sprintf("web/load/i%d", n), fmt.Sprintf(`"utilization":%v`, loads[n])))
		}
	}
	return viewtest.SnapshotOf(changes)
}

// A load report belongs to the record under the same lease, and changes nothing but the
// entry.
func TestApplyLoad(t *testing.T) {
	s := viewtest.SnapshotOf([]view.Change{viewtest.WithLease(viewtest.Put(1, "web/instances/a", ``)), viewtest.Put(2, "web/static/b", ``)})
	web, _ := s.Service("web")
	made := 0
	memo := func(of *view.Service) any { return of.Memo("k", func() any { made++; return made }) }
	memo(web)
	next, events, broken := s.Apply(3, []view.Change{viewtest.WithLease(viewtest.Put(3, "web/load/a", `"utilization":0.7`)), viewtest.Put(3, "web/load/b", `"utilization":0.7`)})
	after, _ := next.Service("web")
	a, _ := after.Entry("a")
	b, _ := after.Entry("b")
	if a.Utilization == nil || *a.Utilization != 0.7 || a.Revision != 1 || b.Utilization != nil || len(events)+len(broken) > 0 {
		t.Errorf("a %+v, b %+v, events %v, broken %v", a, b, events, broken)
	}
	if was, _ := web.Entry("a"); was.Utilization != nil {
		t.Error("the snapshot before has changed")
	}
	if after.Index() != web.Index() || next.ServicesIndex() != s.ServicesIndex() || memo(after) != 1 {
		t.Errorf("index %d, was %d; memo %v", after.Index(), web.Index(), memo(after))
	}
	anew, _, _ := next.Apply(4, []view.Change{viewtest.Put(4, "web/instances/a", ``)})
	after, _ = anew.Service("web")
	if a, _ := after.Entry("a"); a.Utilization != nil || memo(after) != 2 {
		t.Errorf("under another lease the earlier load is shown, %v; memo %v", a.Utilization, memo(after))
	}
	gone, _, _ := next.Apply(4, []view.Change{viewtest.Delete(4, "web/instances/a"), viewtest.Delete(4, "web/static/b")})
	if after, _ = gone.Service("web"); !after.Empty() {
		t.Error("a load report alone made a service")
	}
	_, _, broken = next.Apply(4, []view.Change{viewtest.WithValue(viewtest.WithLease(viewtest.Put(4, "web/load/a", ``)), `{"utilization":-1}`)})
	if len(broken) != 1 || broken[0].Key.Kind != discovery.KeyLoad {
		t.Errorf("broken are %v", broken)
	}
}

// shares picks one of a service often, and returns the share of each instance.
func shares(t *testing.T, s *view.Snapshot, q Query) map[string]float64 {
	t.Helper()
	const draws = 20_000
	met := map[string]float64{}
	q.Name, q.Rand = "web", rand.New(rand.NewPCG(5, 6))
	q.Pick = max(q.Pick, 1)
	for range draws {
		a, err := Lookup(s, q)
		if err != nil {
			t.Fatal(err)
		}
		met[a.Endpoints[0].ID] += 1.0 / draws
	}
	return met
}

func TestPickByLoad(t *testing.T) {
	tests := map[string]struct {
		weights []int
		loads   []float64
		query   Query
		want    []float64
	}{
		"the less loaded of two":          {[]int{1, 1}, []float64{0.2, 0.8}, Query{}, []float64{0.75, 0.25}},
		"as good as equal":                {[]int{1, 1}, []float64{0.5, 0.55}, Query{}, []float64{0.5, 0.5}},
		"by weight":                       {[]int{3, 1}, []float64{0.8, 0.2}, Query{}, []float64{9. / 16, 7. / 16}},
		"three":                           {[]int{1, 1, 1}, []float64{0.9, 0.5, 0.1}, Query{}, []float64{1. / 9, 3. / 9, 5. / 9}},
		"unreported is average":           {[]int{1, 1, 1}, []float64{0.9, -1, 0.1}, Query{}, []float64{1. / 9, 3. / 9, 5. / 9}},
		"none reported":                   {[]int{1, 3}, []float64{-1, -1}, Query{}, []float64{0.25, 0.75}},
		"the view is old":                 {[]int{1, 1}, []float64{0.2, 0.8}, Query{NoLoad: true}, []float64{0.5, 0.5}},
		"two of three, the first of them": {[]int{1, 1, 1}, []float64{0.9, 0.5, 0.1}, Query{Pick: 2}, []float64{1. / 9, 3. / 9, 5. / 9}},
		"alone":                           {[]int{1}, []float64{3}, Query{}, []float64{1}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := shares(t, loaded(tt.weights, tt.loads...), tt.query)
			for n, want := range tt.want {
				if share := got[fmt.Sprint("i", n)]; math.Abs(share-want) > 0.02 {
					t.Errorf("i%d is picked in %.3f of all, want about %.3f", n, share, want)
				}
			}
		})
	}
}

// The second pick is drawn from the remaining instances, as the first is from all.
func TestPickSecondByLoad(t *testing.T) {
	s := loaded([]int{1, 1, 1}, 0.9, 0.5, 0.1)
	const draws = 20_000
	second := map[string]float64{}
	q := Query{Name: "web", Pick: 2, Rand: rand.New(rand.NewPCG(7, 8))}
	for range draws {
		a, err := Lookup(s, q)
		if err != nil || len(a.Endpoints) != 2 {
			t.Fatal(a, err)
		}
		second[a.Endpoints[1].ID] += 1.0 / draws
	}
	// i2 after i0 (1/9 × 3/4) or i1 (3/9 × 3/4); i1 after i0 (1/9 × 1/4) or i2 (5/9 × 3/4).
	for id, want := range map[string]float64{"i0": 8. / 36, "i1": 16. / 36, "i2": 12. / 36} {
		if got := second[id]; math.Abs(got-want) > 0.02 {
			t.Errorf("%s is second in %.3f of all, want about %.3f", id, got, want)
		}
	}
}

// TestPickRandom picks from random fleets: as many as possible, each once, the others
// explained, and the tiers in order.
func TestPickRandom(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 9))
		var changes []view.Change
		n := 1 + r.IntN(30)
		for i := range n {
			key := fmt.Sprintf("web/instances/i%d", i)
			changes = append(changes, viewtest.Put(1, key, fmt.Sprintf(`"weight":%d,"zone":%q`, 1+r.IntN(9), []string{"a", "b"}[r.IntN(2)])))
			if r.IntN(3) > 0 {
				changes = append(changes, viewtest.Put(1, strings.Replace(key, "instances", "load", 1), fmt.Sprintf(`"utilization":%v`, r.Float64())))
			}
		}
		q := Query{Name: "web", Pick: 1 + r.IntN(35), PreferZone: "a", Explain: true, Rand: r}
		a, err := Lookup(viewtest.SnapshotOf(changes), q)
		if err != nil || len(a.Endpoints) != min(n, q.Pick) || len(a.Explain) != n {
			t.Fatalf("seed %d: %d of %d, %d explained, %v", seed, len(a.Endpoints), n, len(a.Explain), err)
		}
		met, spilt := map[string]bool{}, false
		for _, e := range a.Endpoints {
			if met[e.ID] || spilt && e.Zone == "a" {
				t.Fatalf("seed %d: %s is picked twice or after another zone: %+v", seed, e.ID, a.Endpoints)
			}
			met[e.ID], spilt = true, spilt || e.Zone != "a"
		}
	}
}
