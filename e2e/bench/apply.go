package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"disc/discovery"
	"disc/discovery/view"
)

func applyRows() []row {
	return []row{{
		name:    "apply",
		about:   "applying one change to a catalog of 100000 instances, 10 to each service",
		against: "catalog of one service",
		figures: []figure{{name: "time", unit: "µs", bound: atMost(2)}, {name: "allocations", unit: "", bound: atMost(2)}, {name: "bytes", unit: "", bound: atMost(2)}},
		start:   startApply,
	}}
}

func startApply(_ context.Context, s *stage) (pair, error) {
	side := func(services int) side {
		snapshot := snapshotOf(services)
		return func(ctx context.Context) ([]float64, error) { return applyRepeatedly(ctx, snapshot, s.window) }
	}
	return pair{side(s.size(10_000, 20)), side(1)}, nil
}

// snapshotOf returns a snapshot of services that have 10 instances each.
func snapshotOf(services int) *view.Snapshot {
	s := view.EmptySnapshot()
	for n := range services {
		var changes []view.Change
		for i := range 10 {
			changes = append(changes, putChange(serviceName(n), i, int64(n*10+i+1)))
		}
		s, _, _ = s.Apply(int64(n*10+10), changes)
	}
	return s
}

// putChange returns the change that puts an instance.
func putChange(service string, n int, revision int64) view.Change {
	i := instance(service, n)
	return view.Change{
		Key:   discovery.Key{Kind: discovery.KeyInstance, Service: service, ID: i.ID},
		Value: i.Encode(), Created: 1, Modified: revision, Lease: 1,
	}
}

// applyRepeatedly changes one instance again and again for d, at least once. It returns the cost of one
// change in microseconds, allocations and allocated bytes.
func applyRepeatedly(ctx context.Context, s *view.Snapshot, d time.Duration) ([]float64, error) {
	change := []view.Change{putChange("web", 3, s.Revision())}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	n, start := 0, time.Now()
	for ; n == 0 || time.Since(start) < d; n++ {
		change[0].Modified++
		var broken []discovery.BrokenRecord
		if s, _, broken = s.Apply(change[0].Modified, change); len(broken) > 0 {
			return nil, fmt.Errorf("apply: %w", broken[0])
		}
	}
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	each := func(v float64) float64 { return v / float64(n) }
	return []float64{each(micros(took)), each(float64(after.Mallocs - before.Mallocs)), each(float64(after.TotalAlloc - before.TotalAlloc))}, ctx.Err()
}
