package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"

	"go.etcd.io/etcd/server/v3/etcdmain"

	"disc/discovery/devetcd"
)

// roleVariable is the environment variable that makes this program run one [role]. A role is
// a process of its own, so that its CPU time and memory can be measured.
const roleVariable = "DISC_BENCH_ROLE"

// role is a helper process of a row. It writes a line that begins with [ready] to out, and
// runs until ctx ends or its work is done.
type role func(ctx context.Context, args []string, in io.Reader, out io.Writer) error

var roles = map[string]role{
	"etcd": runEtcd, "http": runBareHTTP, "dns": runBareDNS, "catalog": runCatalog, "map": runMap, "wait": runBareWait,
	"fleet": runFleet, "register": runBareRegister, "watch": runWatch, "renew": runRenew, "grpcproxy": runGRPCProxy,
}

// runRole runs the role called name, and returns the exit code.
func runRole(ctx context.Context, name string, args []string) int {
	run, ok := roles[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "bench: %s=%s: no such role\n", roleVariable, name)
		return 1
	}
	if err := run(ctx, args, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %s: %v\n", name, err)
		return 1
	}
	return 0
}

// role returns the command that runs a role.
func (s *stage) role(name string, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.Command(self, args...)
	c.Env = append(os.Environ(), roleVariable+"="+name)
	return c, nil
}

// ready begins the line that a role writes when it is ready. The rest of the line is its
// address or its result.
const ready = "ready at "

// start starts a role, waits until it is ready, and returns what its line has after [ready].
func (s *stage) start(name string, input io.Reader, args ...string) (p *process, address string, err error) {
	c, err := s.role(name, args...)
	if err != nil {
		return nil, "", err
	}
	if p, err = s.run(c, input); err != nil {
		return nil, "", err
	}
	line, err := p.await(ready)
	if err != nil {
		return nil, "", err
	}
	return p, line[len(ready):], nil
}

// runEtcd runs an etcd that does not sync its disk.
func runEtcd(ctx context.Context, _ []string, _ io.Reader, out io.Writer) error {
	etcd, err := devetcd.Start(ctx, devetcd.Options{})
	if err != nil {
		return err
	}
	defer etcd.Close()
	fmt.Fprintln(out, ready+etcd.Endpoint())
	<-ctx.Done()
	return nil
}

// runGRPCProxy runs etcd's grpc-proxy in front of the etcd of its argument. It ends with the process.
func runGRPCProxy(ctx context.Context, args []string, _ io.Reader, out io.Writer) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := l.Addr().String()
	l.Close()
	go func() {
		_ = await(ctx, func() error { // a proxy that does not start ends the process
			conn, err := net.Dial("tcp", address)
			if err != nil {
				return err
			}
			fmt.Fprintln(out, ready+address)
			return conn.Close()
		})
	}()
	os.Args = []string{"etcd", "grpc-proxy", "start", "--endpoints", args[0], "--listen-addr", address, "--data-dir", os.TempDir()}
	etcdmain.Main(os.Args)
	return nil
}
