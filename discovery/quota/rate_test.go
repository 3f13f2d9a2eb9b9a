package quota

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"disc/discovery"
)

// A caller that waits for each write is slowed down to the rate and sees no error.
func TestRateSlowsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, begun := NewRate(100), time.Now()
		for range 600 {
			if err := r.Take(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(begun).Round(time.Millisecond); took != 5*time.Second {
			t.Errorf("600 writes, 100 of them at once, take %v", took)
		}
	})
}

// Callers that all come at once are refused beyond a second's writes, and told when to come
// again.
func TestRateRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRate(100)
		var group errgroup.Group
		refused := make(chan error, 1000)
		for range 1000 {
			group.Go(func() error {
				if err := r.Take(t.Context(), 1); err != nil {
					refused <- err
				}
				return nil
			})
		}
		_ = group.Wait()
		if n := len(refused); n != 800 {
			t.Errorf("%d are refused, want all but the 100 of the burst and the 100 of the next second", n)
		}
		var busy *discovery.BusyError
		if err := <-refused; !errors.As(err, &busy) || !errors.Is(err, discovery.ErrBusy) || busy.RetryAfter <= time.Second || busy.RetryAfter > 1100*time.Millisecond {
			t.Errorf("%v", err)
		}
	})
}

// Writes that wait and are given up, or are refused, take nothing.
func TestRateGivesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRate(1)
		if err := r.Take(t.Context(), minBurst); err != nil {
			t.Fatal(err)
		}
		if err := r.Take(t.Context(), minBurst); !errors.Is(err, discovery.ErrBusy) {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := r.Take(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if err := r.Take(t.Context(), 1); err != nil {
			t.Error(err)
		}
	})
}

func TestNoRate(t *testing.T) {
	r := NewRate(0)
	for range 100 {
		if err := r.Take(t.Context(), minBurst); err != nil {
			t.Fatal(err)
		}
	}
}
