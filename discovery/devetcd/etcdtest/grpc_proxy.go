package etcdtest

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Proxy is etcd's grpc-proxy, as a process.
type Proxy struct {
	process
	program, address, dir string
	endpoints             []string // of the etcd behind it
}

// StartProxy runs the grpc-proxy of a program, [Bundled] or "etcd" in the PATH, in front of an etcd
// until the test ends. It skips the test if there is no such program.
func StartProxy(t testing.TB, program string, endpoints ...string) *Proxy {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil && program != Bundled {
		t.Skipf("needs %s in the PATH (apt-get install etcd-server): %v", program, err)
	}
	p := &Proxy{process: process{t: t, name: "the grpc-proxy of " + program}, program: program, address: Address(t), dir: t.TempDir(), endpoints: endpoints}
	t.Cleanup(p.Kill)
	p.Start()
	return p
}

// ForEachProxy runs a test with the grpc-proxy of the bundled etcd and with that of the etcd in the
// PATH, which may be much older.
func ForEachProxy(t *testing.T, test func(t *testing.T, program string)) {
	t.Helper()
	for name, program := range map[string]string{"bundled": Bundled, "installed": "etcd"} {
		t.Run(name, func(t *testing.T) { test(t, program) })
	}
}

// Endpoint returns the address that clients connect to, host:port.
func (p *Proxy) Endpoint() string { return p.address }

// Start starts the process, unless it runs, and waits until it answers for etcd.
func (p *Proxy) Start() {
	p.t.Helper()
	p.start(p.program, "grpc-proxy", "start", "--endpoints", strings.Join(p.endpoints, ","), "--listen-addr", p.address,
		"--advertise-client-url", p.address, "--data-dir", p.dir)
	await(p.t, p.name, func(ctx context.Context) error {
		limited, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{p.address}, Context: limited})
		if err != nil {
			return err
		}
		defer client.Close()
		if _, err := client.Get(limited, "\x00"); err != nil {
			return fmt.Errorf("get a key through it: %w", err)
		}
		return nil
	})
}
