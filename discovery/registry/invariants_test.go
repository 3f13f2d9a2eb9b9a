package registry

import (
	"testing"
	"time"

	"disc/discovery"
)

// checkInvariants checks that what a registry derives from the state of its instances agrees with it.
func checkInvariants(t testing.TB, r *Registry) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for key, d := range r.desired {
		if key != d.key {
			t.Errorf("%s is under the key %s", d.key, key)
		}
		if want := d.nextAttempt(r.currentLease.ID, now); !dueAsDerived(d, want, now) {
			t.Errorf("%s is due at %v, want %v, at %v: %+v", key, d.due, want, now, d)
		}
		if want := d.phase(r.currentLease.ID); d.counted != want {
			t.Errorf("%s is counted as %q, want %q", key, d.counted, want)
		}
		if want := d.attempt.refused > 0 || d.load.attempt.refused > 0; r.refused[d] != want {
			t.Errorf("%s is among the refused: %v, want %v", key, r.refused[d], want)
		}
		if (d.queued > 0) == d.due.IsZero() {
			t.Errorf("%s has place %d in the queue and is due at %v", key, d.queued, d.due)
		}
	}
	live := func(d *desired, where string) {
		if !r.has(d) {
			t.Errorf("%s is %s, and has left", d.key, where)
		}
	}
	for n, d := range r.queue.heap {
		if live(d, "in the queue"); d.queued != n+1 {
			t.Errorf("%s has place %d in the queue, want %d", d.key, d.queued, n+1)
		}
	}
	for d := range r.unconfirmed {
		live(d, "unconfirmed")
	}
	for d := range r.refused {
		live(d, "among the refused")
	}
	for _, waiting := range r.hidden {
		for d := range waiting {
			live(d, "hidden")
		}
	}
}

// dueAsDerived reports whether the time from which an instance needs work is what its state says: the
// same, or both are past. A load report may have expired since.
func dueAsDerived(d *desired, want, now time.Time) bool {
	past := !d.due.IsZero() && !d.due.After(now)
	switch expired := !now.Before(d.load.reportedAt.Add(discovery.LoadReportTTL)); {
	case want.IsZero():
		return d.due.IsZero() || past && expired && !d.load.reportedAt.IsZero()
	case !want.After(now):
		return past
	}
	return d.due.Equal(want)
}
