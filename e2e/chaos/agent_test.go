package chaos_test

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"disc/agent/api"
	"disc/discovery/devetcd/etcdtest"
)

// ttl is the session's TTL, the T of the bounds in docs/faults.md.
const ttl = 5 * time.Second

// agent is an agent process with its own link to each member of etcd.
type agent struct {
	*api.Client
	t       *testing.T
	name    string
	dir     string
	program string // of the last release; "": the test's binary runs disc
	links   []*etcdtest.Link
	command *exec.Cmd
	killed  *atomic.Bool
	ended   chan struct{}
}

func startAgent(t *testing.T, name, program string, etcd *etcdtest.Cluster) *agent {
	t.Helper()
	dir, err := os.MkdirTemp("", "chaos-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	a := &agent{t: t, name: name, program: program, dir: dir}
	var endpoints []string
	for _, endpoint := range etcd.Endpoints() {
		l := etcdtest.StartLink(t, endpoint)
		a.links, endpoints = append(a.links, l), append(endpoints, l.Endpoint())
	}
	config := fmt.Sprintf(`
node: %s
etcd: {endpoints: [%s]}
data_dir: %s
session: {ttl: %s}
http: {listen: "127.0.0.1:0", socket: %s}
dns: {listen: ""}
log: {format: json}
`, name, strings.Join(endpoints, ", "), filepath.Join(dir, "data"), ttl, filepath.Join(dir, "disc.sock"))
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if a.Client, err = api.NewClient("unix://" + filepath.Join(dir, "disc.sock")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.CloseIdle)
	a.start()
	t.Cleanup(func() {
		a.kill()
		if t.Failed() {
			a.logOutput()
		}
	})
	return a
}

// start starts the process with the data of the previous one.
func (a *agent) start() {
	log, err := os.OpenFile(filepath.Join(a.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		a.t.Fatal(err)
	}
	defer log.Close()
	command := exec.Command(cmp.Or(a.program, os.Args[0]), "agent", "--config", filepath.Join(a.dir, "config.yaml"))
	command.Env = append(os.Environ(), asAgent+"=1", "GORACE=atexit_sleep_ms=0")
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		a.t.Fatal(err)
	}
	killed, ended := &atomic.Bool{}, make(chan struct{})
	go func() {
		defer close(ended)
		if err := command.Wait(); !killed.Load() {
			a.t.Errorf("agent %s ended by itself: %v", a.name, err)
		}
	}()
	a.command, a.killed, a.ended = command, killed, ended
}

func (a *agent) kill() {
	a.killed.Store(true)
	a.signal(syscall.SIGKILL)
	<-a.ended
}

func (a *agent) signal(s syscall.Signal) { a.command.Process.Signal(s) }

// cutOff drops every packet between the agent and etcd, until mend.
func (a *agent) cutOff() {
	for _, l := range a.links {
		l.Freeze()
	}
}

func (a *agent) mend() {
	for _, l := range a.links {
		l.Mend()
	}
}

// maxLog is the number of bytes of an agent's log that a failed test shows.
const maxLog = 16 << 10

func (a *agent) logOutput() {
	log, err := os.ReadFile(filepath.Join(a.dir, "log"))
	if err != nil {
		a.t.Log(err)
		return
	}
	a.t.Logf("agent %s:\n%s", a.name, log[max(0, len(log)-maxLog):])
}
