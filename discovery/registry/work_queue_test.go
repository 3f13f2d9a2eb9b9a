package registry

import (
	"maps"
	"math/rand/v2"
	"testing"
	"time"
)

// TestWorkQueue compares a queue with a map while the times of instances come, change and go.
func TestWorkQueue(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var q workQueue
	all, start := make([]*desired, 50), time.Now()
	for n := range all {
		all[n] = &desired{}
	}
	want := map[*desired]time.Time{}
	for range 20_000 {
		d, due := all[random.IntN(len(all))], time.Time{}
		delete(want, d)
		if random.IntN(3) > 0 {
			due = start.Add(time.Duration(random.IntN(100)))
			want[d] = due
		}
		q.set(d, due)
		now := start.Add(time.Duration(random.IntN(100)))
		wantDue := maps.Clone(want)
		maps.DeleteFunc(wantDue, func(_ *desired, at time.Time) bool { return at.After(now) })
		gotDue := map[*desired]time.Time{}
		for d := range q.dueBy(now) {
			gotDue[d] = d.due
		}
		if !maps.Equal(gotDue, wantDue) {
			t.Fatalf("%d are due, want %d", len(gotDue), len(wantDue))
		}
		first := q.first()
		if (first == nil) != (len(want) == 0) {
			t.Fatalf("the first is %v of %d", first, len(want))
		}
		for _, at := range want {
			if at.Before(first.due) {
				t.Fatal("another is due before the first")
			}
		}
	}
}
