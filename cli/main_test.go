package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// TestMain makes the test binary a service of the demo when 'disc dev' starts it as one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == demoCommand {
		os.Exit(Main(context.Background(), os.Args[1:], System()))
	}
	// Whoever started the tests may ignore SIGHUP, as nohup does, and what a test starts
	// would ignore it too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	goleak.VerifyTestMain(m)
}
