// Package browser_test opens the agent's page in Chromium: an etcd, agents as processes, and what a
// reader sees and does. It drives Debian's chromium through chromedp, and is skipped without it. Most
// tests run at full length only.
//
//	LONG_TESTS=1 go test ./e2e/browser -v
//	LONG_TESTS=1 AXE_CORE=node_modules/axe-core/axe.min.js go test ./e2e/browser -run Accessible
//	LONG_TESTS=1 go test ./e2e/browser -run Screenshots -artifacts -outputdir /tmp
package browser_test

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"disc/cli"
	"disc/discovery/devetcd/etcdtest"
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == program {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		context.AfterFunc(ctx, stop)
		os.Exit(cli.Main(ctx, os.Args[1:], cli.System()))
	}
	etcdtest.Sweep()
	os.Exit(m.Run())
}
