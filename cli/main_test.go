package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"disc/discovery/devetcd/etcdtest"
)

// TestMain lets the test binary act as a demo service when 'disc dev' starts it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == demoCommand {
		os.Exit(Main(context.Background(), os.Args[1:], System()))
	}
	// The parent may ignore SIGHUP, as nohup does, and the children of the tests would
	// inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	etcdtest.Main(m)
}
