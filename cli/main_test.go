package cli

import (
	"context"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain makes the test binary a service of the demo when 'disc dev' starts it as one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == demoCommand {
		os.Exit(Main(context.Background(), os.Args[1:], System()))
	}
	goleak.VerifyTestMain(m)
}
