// Package retrytest waits, in tests, for what other goroutines and processes bring about.
package retrytest

import (
	"fmt"
	"testing"
	"time"
)

// timeout bounds a wait. No test depends on its length but one that fails.
const timeout = time.Minute

// interval is the time between two looks.
const interval = 2 * time.Millisecond

// Eventually waits until a condition holds. After a minute it fails the test and says
// what it waited for.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	Succeeds(t, func() error {
		if condition() {
			return nil
		}
		return fmt.Errorf("waited for: %s", what)
	})
}

// Succeeds waits until check returns nil. After a minute it fails the test with the
// last error.
func Succeeds(t testing.TB, check func() error) {
	t.Helper()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for deadline := time.After(timeout); ; {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after %v: %v", timeout, err)
		}
	}
}
