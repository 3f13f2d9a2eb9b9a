// Command disc is service discovery on etcd: a sidecar agent and its command line.
package main

import (
	"context"
	"os"

	"disc/cli"
)

func main() {
	os.Exit(cli.Main(cli.NotifyContext(context.Background()), os.Args[1:], cli.System()))
}
