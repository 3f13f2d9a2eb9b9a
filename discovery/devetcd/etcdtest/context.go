package etcdtest

import (
	"context"
	"testing"
	"time"
)

// timeout bounds what a test waits for.
const timeout = time.Minute

// Context returns a context that ends with the test, or after a minute.
func Context(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	t.Cleanup(cancel)
	return ctx
}
