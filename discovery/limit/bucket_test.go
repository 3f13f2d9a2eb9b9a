package limit

import (
	"testing"
	"time"
)

func TestDebtDrainsSlowerThanTheRate(t *testing.T) {
	b := bucket{parameters: parameters{capacity: 1000, rate: 100, horizon: usualHorizon}}
	const start = time.Hour
	b.charge(start, 999)
	if got := b.available(start); got != 1 {
		t.Errorf("room after a sale of 999 of 1000: %d, want 1", got)
	}
	// 999 tokens take exactly 10 s at 0.999 of the rate.
	if got := b.available(start + 9995*time.Millisecond); got >= 1000 {
		t.Errorf("room after 9.995 s: %d, want less than 1000", got)
	}
	if took := b.drainedAt - start; took < 10*time.Second || took > 10*time.Second+time.Microsecond {
		t.Errorf("999 tokens drain in %v, want 10s", took)
	}
	if got := b.available(start + 10*time.Second + time.Microsecond); got != 1000 {
		t.Errorf("room when drained: %d, want 1000", got)
	}
}

func TestSaleDrainsFromWhenItIsSeen(t *testing.T) {
	b := bucket{parameters: parameters{capacity: 1000, rate: 100, horizon: usualHorizon}}
	b.charge(time.Hour, 999)
	late := 2 * time.Hour
	b.charge(late, 999)
	if took := b.drainedAt - late; took < 10*time.Second {
		t.Errorf("a sale seen long after the last one drained within %v, want 10s", took)
	}
}
