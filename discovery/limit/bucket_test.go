package limit

import (
	"math"
	"testing"
	"time"
)

// bucketOf1000 has no debt at now.
func bucketOf1000(now time.Duration) bucket {
	return bucket{parameters{burst: 1000, capacity: 975, rate: 100, horizon: usualHorizon}, debt{at: now}, debt{at: now}, now, now}
}

func TestDebtDrainsSlowerThanTheRate(t *testing.T) {
	const start = time.Hour
	b := bucketOf1000(start)
	b.charge(start, 974)
	if got := b.available(start); got != 1 {
		t.Errorf("room after a sale of 974 of 975: %d, want 1", got)
	}
	// 999 tokens take exactly 10 s at 0.999 of the rate.
	b = bucketOf1000(start)
	b.charge(start, 999)
	if got := b.debt(start + 9995*time.Millisecond); got <= 0 {
		t.Errorf("debt after 9.995 s: %v, want some", got)
	}
	if got := b.debt(start + 10*time.Second); math.Abs(got) > 1e-6 {
		t.Errorf("debt after 10 s: %v, want 0", got)
	}
}

// What is sold at once is the burst, when the tokens of the last horizon are void.
func TestBurstAtOnce(t *testing.T) {
	const start = time.Hour
	b := bucketOf1000(start)
	if got := b.available(start); got != 975 {
		t.Errorf("available when just drained: %d, want 975", got)
	}
	if got := b.available(start + usualHorizon + time.Millisecond); got != 1000 {
		t.Errorf("available a horizon later: %d, want 1000", got)
	}
	if got := b.availableIn(start, 1000); got < usualHorizon || got > usualHorizon+time.Millisecond {
		t.Errorf("the burst is available in %v, want %v", got, usualHorizon)
	}
}

func TestSaleDrainsFromWhenItIsSeen(t *testing.T) {
	b := bucketOf1000(time.Hour)
	b.charge(time.Hour, 999)
	late := 2 * time.Hour
	b.charge(late, 999)
	if got := b.debt(late); got != 999 {
		t.Errorf("the debt after a sale that is seen long after the last one is %v, want 999", got)
	}
}

// A burst that takes centuries to fill does not overflow.
func TestCenturies(t *testing.T) {
	b := openBucket(0, parametersOf(policy(1.0/86400, 200_000)), 0)
	if got := b.available(time.Hour); got != 0 {
		t.Errorf("%d tokens are available at once of 1 a day", got)
	}
	if got := b.available(100 * 24 * time.Hour); got < 98 || got > 100 {
		t.Errorf("%d tokens are available after 100 days, want 99", got)
	}
	if got := b.availableIn(0, 200_000); got != 365*24*time.Hour {
		t.Errorf("the burst is available in %v, want the longest duration", got)
	}
}
