package catalog

import (
	"context"
	"net"
	"os/exec"
	"testing"
	"time"

	"disc/discovery/devetcd/etcdtest"
)

// process is etcd as the system has it, which may be as old as 3.4.
type process struct {
	t        *testing.T
	dir      string
	endpoint string
	peer     string
	cmd      *exec.Cmd
}

func startProcess(t *testing.T) *process {
	t.Helper()
	if _, err := exec.LookPath("etcd"); err != nil {
		t.Skipf("no etcd on this host: %v; install the package etcd-server", err)
	}
	p := &process{t: t, dir: t.TempDir(), endpoint: freeAddress(t), peer: freeAddress(t)}
	p.start()
	t.Cleanup(p.kill)
	return p
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (p *process) start() {
	p.t.Helper()
	p.cmd = exec.Command("etcd", "--data-dir", p.dir, "--name", "p", "--unsafe-no-fsync",
		"--heartbeat-interval", "10", "--election-timeout", "100",
		"--listen-client-urls", "http://"+p.endpoint, "--advertise-client-urls", "http://"+p.endpoint,
		"--listen-peer-urls", "http://"+p.peer, "--initial-advertise-peer-urls", "http://"+p.peer,
		"--initial-cluster", "p=http://"+p.peer)
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	client := etcdtest.Client(p.t, p.endpoint)
	for ctx := p.t.Context(); ; {
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		_, err := client.Get(attempt, "ready")
		cancel()
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// All of it holds with an etcd that is killed, comes back, and cannot stream lists.
func TestEtcdProcess(t *testing.T) {
	t.Parallel()
	p := startProcess(t)
	link := etcdtest.StartLink(t, p.endpoint)
	client := etcdtest.Client(t, p.endpoint)
	fill(t, client, "web", 2500, func(id string) string { return record("web", id) })
	f := start(t, p.endpoint, link.Endpoint(), Options{MakeEpoch: true})
	f.until("a view", func() bool { return f.snapshot() != nil })
	before := f.settled()
	if n := len(mustService(t, before, "web").Entries()); n != 2500 {
		t.Fatalf("%d instances are listed", n)
	}
	confirmed := f.state.Load().confirmed
	f.until("a confirmation", func() bool { return f.state.Load().confirmed.After(confirmed) })

	p.kill()
	f.until("the loss to be noticed", func() bool { return f.Health().Err != nil })
	p.start()
	f.register("web", "after")
	f.until("the process to be back", func() bool { return f.Health().Err == nil })
	if now := f.settled(); now.Epoch() != before.Epoch() {
		t.Errorf("epoch %q after %q", now.Epoch(), before.Epoch())
	}

	link.Freeze()
	fill(t, client, "db", many+200, func(id string) string { return record("db", id) })
	if _, err := client.Compact(t.Context(), f.remove(keys.Instance("web", "after"))); err != nil {
		t.Fatal(err)
	}
	link.Cut()
	link.Mend()
	last := f.settled()
	replayed(t, f, before, last)

	p.kill()
	p.dir = t.TempDir()
	p.start()
	f.register("web", "new")
	f.until("the new life", func() bool { return f.snapshot().Epoch() != before.Epoch() })
	if now := f.settled(); len(mustService(t, now, "web").Entries()) != 1 || !mustService(t, now, "db").Empty() {
		t.Error("the view is not that of the wiped etcd")
	}
}
