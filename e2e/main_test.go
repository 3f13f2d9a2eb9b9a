// Package e2e tests disc as a whole: the real program as processes, a real etcd and real
// clients. The files of testdata/script are terminal sessions. commands_test.go has their
// commands beside those of testscript.
package e2e_test

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.etcd.io/etcd/server/v3/etcdmain"

	"disc/cli"
	"disc/discovery/devetcd/etcdtest"
)

func TestMain(m *testing.M) {
	commands := map[string]func(){
		"disc": runDisc, "server": runServer, "grpcserver": runGRPCServer, "flow": runFlow, "askgo": runAskGo,
		"envoyclient": runEnvoyClient, "envoylimit": runEnvoyLimit, "etcdserver": func() { etcdmain.Main(os.Args) },
	}
	if commands[filepath.Base(os.Args[0])] == nil {
		etcdtest.Sweep()
		etcdtest.Parallel()
	}
	testscript.Main(m, commands)
}

// runDisc runs the program as cmd/disc does.
func runDisc() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(cli.Main(ctx, os.Args[1:], cli.System()))
}
