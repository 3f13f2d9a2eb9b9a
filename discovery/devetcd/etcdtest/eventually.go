package etcdtest

import (
	"context"
	"testing"
	"time"
)

// timeout bounds what a test waits for.
const timeout = time.Minute

// Eventually waits until a condition holds, and fails the test after a minute.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(timeout); !condition(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %v for: %s", timeout, what)
		}
	}
}

// Context returns a context that ends with the test, or after a minute.
func Context(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	t.Cleanup(cancel)
	return ctx
}
