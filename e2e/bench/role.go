package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"

	"disc/discovery/devetcd"
)

// roleVariable makes this program play a part of a row in a process of its own, so that
// its CPU time and memory are told apart: the environment variable names the part.
const roleVariable = "DISC_BENCH_ROLE"

// role is such a part. It says on out that it is ready, and plays until ctx ends or it
// has done what it is for.
type role func(ctx context.Context, args []string, in io.Reader, out io.Writer) error

var roles = map[string]role{
	"etcd": runEtcd, "http": runBareHTTP, "dns": runBareDNS, "catalog": runCatalog, "map": runMap, "wait": runBareWait,
	"fleet": runFleet, "watch": runWatch,
}

// runRole plays a role, and returns the exit code.
func runRole(ctx context.Context, name string, args []string) int {
	run, ok := roles[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "bench: %s=%s: there is no such role\n", roleVariable, name)
		return 1
	}
	if err := run(ctx, args, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %s: %v\n", name, err)
		return 1
	}
	return 0
}

// role returns the command that plays a role.
func (s *stage) role(name string, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.Command(self, args...)
	c.Env = append(os.Environ(), roleVariable+"="+name)
	return c, nil
}

// ready begins what a role says when it is ready; the rest of the line is its address.
const ready = "ready at "

// start starts a role and waits until it is ready. It returns its address.
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

// runEtcd is an etcd that does not sync its disk.
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
