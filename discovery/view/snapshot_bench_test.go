package view_test

import (
	"fmt"
	"runtime"
	"testing"

	"disc/discovery/view"
	"disc/discovery/view/viewtest"
)

// BenchmarkMemory measures a catalog of 100,000 instances of 1,000 services.
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
		s := view.EmptySnapshot()
		for n := range services {
			s, _, _ = s.Apply(int64(n), viewtest.Fleet(fmt.Sprintf("service-%d", n), n, instances/services))
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
			s := viewtest.Services(services)
			change := viewtest.Fleet("service-0", 3, 1)
			b.ReportAllocs()
			for b.Loop() {
				s.Apply(1, change)
			}
		})
	}
}
