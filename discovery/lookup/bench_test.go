package lookup

import (
	"math/rand/v2"
	"testing"

	"disc/discovery/view/viewtest"
)

func BenchmarkLookup(b *testing.B) {
	s := viewtest.SnapshotOf(append(viewtest.Fleet("web", 0, 10), viewtest.Fleet("big", 0, 1000)...))
	random := rand.New(rand.NewPCG(1, 2))
	filter, err := ParseFilter(`meta.Team == "core" and zone matches "^eu"`)
	if err != nil {
		b.Fatal(err)
	}
	for _, bench := range []struct {
		name  string
		query Query
	}{
		{"plain", Query{Name: "web"}},
		{"seeded", Query{Name: "web", Rand: random}},
		{"tag", Query{Name: "v2.web.svc.disc.", Domain: "disc."}},
		{"pick", Query{Name: "web", Pick: 1}},
		{"filter", Query{Name: "web", Selector: Selector{Filter: filter}}},
		{"instance", Query{Name: "web-7.web.inst"}},
		{"explain", Query{Name: "web", Explain: true}},
		{"1000", Query{Name: "big"}},
		{"1000/pick", Query{Name: "big", Pick: 1}},
		{"1000/instance", Query{Name: "big-700.big.inst"}},
		{"1000/instance-mixed-case", Query{Name: "BIG-700.big.inst"}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if a, err := Lookup(s, bench.query); err != nil || len(a.Endpoints) == 0 {
					b.Fatal(a, err)
				}
			}
		})
	}
}
