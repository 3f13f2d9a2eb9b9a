// Command disc is service discovery on etcd: a sidecar agent and its command line.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"disc/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(cli.Main(ctx, os.Args[1:], cli.System()))
}
