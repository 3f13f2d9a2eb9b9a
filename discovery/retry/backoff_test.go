package retry

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestBackoffNext(t *testing.T) {
	var b Backoff
	bound, logged := InitialDelay, ""
	for n := 1; n <= 100; n++ {
		var longest time.Duration
		for range 200 {
			longest = max(longest, b.Next())
		}
		if longest > bound || longest < bound/2 {
			t.Fatalf("after %d failures 200 waits reach %v; want nearly %v", n-1, longest, bound)
		}
		if b.Failed() {
			logged += fmt.Sprint(" ", n)
		}
		bound = min(2*bound, MaxDelay)
	}
	if want := " 1 2 4 8 16 32 64"; logged != want || b.Failures() != 100 {
		t.Errorf("logged%s of %d failures, want%s of 100", logged, b.Failures(), want)
	}
	b.Reset()
	if b.Failures() != 0 || b.Next() > InitialDelay {
		t.Error("a success does not count")
	}
}

func TestBackoffWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Backoff
		began := time.Now()
		if err := b.Wait(t.Context()); err != nil || time.Since(began) > InitialDelay {
			t.Errorf("waited %v, %v", time.Since(began), err)
		}
		ended, end := context.WithCancel(t.Context())
		end()
		for range 60 {
			b.Failed()
		}
		if err := b.Wait(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("after the end: %v", err)
		}
	})
}
