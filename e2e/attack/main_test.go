// Package attack does to an agent what a stranger can, at each of its listeners: streams and
// bodies that do not end, readers that do not read, odd frames, floods of names and of
// connections. Meanwhile the agent must answer /healthz and lookups, and its memory has a bound.
//
//	go test ./e2e/attack -v                             a short form, on this program
//	LONG_TESTS=1 go test ./e2e/attack -v                with more connections, and longer
//	go test ./e2e/attack -v -attack.program ./disc      on another build of disc
//	go test ./e2e/attack -v -run Attack/TLS/header_table
package attack_test

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
	program  = flag.String("attack.program", "", "the disc `binary` to attack; default: the code of this test")
	duration = flag.Duration("attack.duration", defaultDuration(), "how long each attack lasts at least")
)

func defaultDuration() time.Duration {
	if full() {
		return 1500 * time.Millisecond
	}
	return 150 * time.Millisecond
}

// asAgent is the environment variable that makes the test's binary run disc.
const asAgent = "ATTACK_AGENT"

func TestMain(m *testing.M) {
	if os.Getenv(asAgent) != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		context.AfterFunc(ctx, stop)
		os.Exit(cli.Main(ctx, os.Args[1:], cli.System()))
	}
	etcdtest.Sweep()
	etcdtest.Main(m)
}
