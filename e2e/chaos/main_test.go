// Package chaos runs agents and an etcd of three members, each as a process, under faults that
// a seed chooses. It checks what disc promises whatever happens: no registration is forgotten,
// no deregistered instance is answered for long, and after the faults every agent's catalog
// equals etcd. In long runs half of the agents are of the last release.
package chaos_test

import (
	"context"
	"flag"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"disc/cli"
	"disc/discovery/devetcd/etcdtest"
)

var (
	duration = flag.Duration("chaos.duration", etcdtest.Length(5*time.Second, 30*time.Second), "cause faults for so long")
	seed     = flag.Uint64("chaos.seed", 1, "`seed` of the random choices; 0 takes a random one")
)

// asAgent is the environment variable that makes the test's binary run disc.
const asAgent = "CHAOS_AGENT"

func TestMain(m *testing.M) {
	if os.Getenv(asAgent) != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		context.AfterFunc(ctx, stop)
		os.Exit(cli.Main(ctx, os.Args[1:], cli.System()))
	}
	etcdtest.Sweep()
	etcdtest.Main(m)
}
