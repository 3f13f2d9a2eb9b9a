// Package e2e tests the whole of disc: the real program as processes, a real etcd, and
// real clients. The files of testdata/script read like terminal sessions; their
// commands beyond testscript's own are in commands_test.go.
package e2e_test

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.etcd.io/etcd/server/v3/etcdmain"

	"disc/cli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"disc": runDisc, "server": runServer, "grpcserver": runGRPCServer, "flow": runFlow, "askgo": runAskGo,
		"envoyclient": runEnvoyClient, "envoylimit": runEnvoyLimit, "etcdserver": func() { etcdmain.Main(os.Args) },
	})
}

// runDisc is the program, as cmd/disc starts it.
func runDisc() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(cli.Main(ctx, os.Args[1:], cli.System()))
}
