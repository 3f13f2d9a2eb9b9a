// Package e2e tests the whole of disc: the real program as processes, a real etcd, and
// real clients. The files of testdata/script read like terminal sessions; their
// commands beyond testscript's own are in commands_test.go.
package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"disc/cli"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"disc": runDisc, "server": runServer})
}

// runDisc is the program, as cmd/disc starts it.
func runDisc() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(cli.Main(ctx, os.Args[1:], cli.System()))
}

// runServer is a service: 'server PORT' answers HTTP until it is killed. It answers
// 503 while the file "sick" is in its directory.
func runServer() {
	err := http.ListenAndServe("127.0.0.1:"+os.Args[1], http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if _, err := os.Stat("sick"); err == nil {
			http.Error(w, "sick", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "well")
	}))
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
