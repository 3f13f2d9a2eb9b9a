package discovery

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
)

// typicalRecord returns a record of some 330 bytes, as an agent writes it.
func typicalRecord(service string, n int) []byte {
	return fmt.Appendf(nil, `{"service":%q,"id":"%s-%d","node":"host-%d","address":"10.0.%d.%d","port":8080,"ports":{},"zone":"eu-west-1a",`+
		`"weight":1,"tags":["v2"],"meta":{"Team":"core"},"status":"passing","checks":[{"id":"http","type":"http","status":"passing"}],`+
		`"slots":1,"owner":"owner-%016x","run":"run-%016x","registered_at":"2026-01-02T03:04:05Z"}`,
		service, service, n, n, n>>8&255, n&255, n, n)
}

// fleet returns changes that put instances of one service.
func fleet(service string, from, n int) []Change {
	changes := make([]Change, 0, n)
	for i := from; i < from+n; i++ {
		key := Key{Kind: KeyInstance, Service: service, ID: fmt.Sprintf("%s-%d", service, i)}
		changes = append(changes, Change{Key: key, Value: typicalRecord(service, i), Created: int64(i) + 1, Modified: int64(i) + 1, Lease: 1})
	}
	return changes
}

func snapshotOf(changes []Change) *Snapshot {
	s, _, _ := EmptySnapshot().Apply(int64(len(changes)), changes)
	return s
}

// BenchmarkDecodeInstance reads a record as agents write it, beside one like it, and
// one in another form.
func BenchmarkDecodeInstance(b *testing.B) {
	like, err := DecodeInstance(typicalRecord("web", 1))
	if err != nil {
		b.Fatal(err)
	}
	for _, bench := range []struct {
		name   string
		record []byte
	}{
		{"as written", typicalRecord("web", 2)},
		{"otherwise", append(typicalRecord("web", 2), '\n')},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.SetBytes(int64(len(bench.record)))
			b.ReportAllocs()
			for b.Loop() {
				if err := DecodeInstanceLike(bench.record, new(Instance), &like); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkMemory tells what a catalog of 100,000 instances of 1,000 services takes.
func BenchmarkMemory(b *testing.B) {
	const instances, services = 100_000, 1000
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for b.Loop() {
		before := heap()
		s := EmptySnapshot()
		for n := range services {
			s, _, _ = s.Apply(int64(n), fleet(fmt.Sprintf("service-%d", n), n, instances/services))
		}
		b.ReportMetric(float64(heap()-before)/instances, "bytes/instance")
		runtime.KeepAlive(s)
	}
}

// BenchmarkApply changes one instance of a service of 10 in catalogs of 1 and of
// 100,000 services.
func BenchmarkApply(b *testing.B) {
	for _, services := range []int{1, 100_000} {
		b.Run(fmt.Sprint(services), func(b *testing.B) {
			s := catalogOf(services)
			change := fleet("service-0", 3, 1)
			b.ReportAllocs()
			for b.Loop() {
				s.Apply(1, change)
			}
		})
	}
}

// catalogOf returns a catalog of services of which the first has 10 instances and
// the others one.
func catalogOf(services int) *Snapshot {
	changes := fleet("service-0", 0, 10)
	for n := 1; n < services; n++ {
		changes = append(changes, fleet(fmt.Sprintf("service-%d", n), 0, 1)...)
	}
	return snapshotOf(changes)
}

func BenchmarkLookup(b *testing.B) {
	s := snapshotOf(append(fleet("web", 0, 10), fleet("big", 0, 1000)...))
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
