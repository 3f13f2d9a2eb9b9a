// Package chaos runs agents and an etcd of three members, all as processes of their own,
// under faults that a seed chooses, and holds them to what disc promises whatever
// happens: nothing that is wanted is forgotten, nothing that has left is answered for
// long, and when the faults are over every agent sees what etcd holds.
package chaos_test

import (
	"context"
	"flag"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"disc/cli"
)

var (
	duration = flag.Duration("chaos.duration", 30*time.Second, "for how long faults are caused")
	seed     = flag.Uint64("chaos.seed", 1, "of all that is random; 0: another each time")
)

// asAgent in the environment has the test's program be disc.
const asAgent = "CHAOS_AGENT"

func TestMain(m *testing.M) {
	if os.Getenv(asAgent) != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		context.AfterFunc(ctx, stop)
		os.Exit(cli.Main(ctx, os.Args[1:], cli.System()))
	}
	goleak.VerifyTestMain(m)
}
