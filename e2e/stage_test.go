package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"disc/agent/reaper"
	"disc/discovery/devetcd"
	"disc/discovery/devetcd/etcdtest"
)

// waitTimeout bounds every wait for a condition. Only a failing test reaches it.
const waitTimeout = 30 * time.Second

// stage has the etcd and the processes of one script.
type stage struct {
	env       *testscript.Env
	etcd      *devetcd.Server
	endpoint  string // of etcd, the same after a restart
	proxy     string // the program of the grpc-proxy in front of etcd; "": there is none
	proxyAt   string // its endpoint; "": it was not started yet
	processes map[string]*process
	rows      []string // the rows of the table in docs/asking.md that the script has used
}

type stageKey struct{}

func stageOf(ts *testscript.TestScript) *stage { return ts.Value(stageKey{}).(*stage) }

func (s *stage) close() {
	for _, p := range s.processes {
		p.kill()
		removeControlGroups(p.command.Process.Pid)
	}
	if s.etcd != nil {
		s.etcd.Close()
	}
}

// startEtcd starts an etcd at the address and with the data of the previous one.
func (s *stage) startEtcd() error {
	if s.endpoint == "" {
		port, err := pickPort()
		if err != nil {
			return err
		}
		s.endpoint = "127.0.0.1:" + port
	}
	etcd, err := devetcd.Start(context.Background(), devetcd.Options{Listen: s.endpoint, Dir: filepath.Join(s.env.WorkDir, ".etcd")})
	if err != nil {
		return err
	}
	s.etcd, s.endpoint = etcd, etcd.Endpoint()
	return nil
}

// startProxy starts the grpc-proxy in front of etcd, unless it runs or there is none, and returns the
// endpoint for clients.
func (s *stage) startProxy(ts *testscript.TestScript) string {
	if s.proxy == "" {
		return s.endpoint
	}
	if s.proxyAt == "" {
		port, err := pickPort()
		ts.Check(err)
		s.proxyAt = "127.0.0.1:" + port
		s.start(ts, "grpc-proxy", s.proxy, "grpc-proxy", "start", "--endpoints", s.endpoint, "--listen-addr", s.proxyAt, "--data-dir", ts.MkAbs(".proxy"))
		if !await(func() bool { return !etcdtest.IsFree(s.proxyAt) }) {
			ts.Fatalf("the grpc-proxy does not listen:\n%s", s.processes["grpc-proxy"].output.String())
		}
	}
	return s.proxyAt
}

// process is a program that runs in the background.
type process struct {
	command *exec.Cmd
	output  buffer // stdout and stderr
	ended   chan struct{}
	code    int // exit code as a shell reports it; valid when ended is closed
}

func (s *stage) start(ts *testscript.TestScript, name, program string, args ...string) *process {
	if old, ok := s.processes[name]; ok && !old.hasEnded() {
		ts.Fatalf("%s already runs", name)
	}
	path, err := exec.LookPath(program)
	if path == "" || !filepath.IsAbs(path) {
		path, err = lookPath(ts.Getenv("PATH"), program)
	}
	ts.Check(err)
	command := exec.Command(path, args...)
	command.Args[0], command.Dir, command.Env = program, ts.MkAbs("."), environ(ts)
	p, err := launch(command)
	ts.Check(err)
	s.processes[name] = p
	return p
}

// launch starts a program in a new process group, which an interrupt of the tests does not reach:
// the program is killed when the tests end in any way.
func launch(command *exec.Cmd) (*process, error) {
	p := &process{command: command, ended: make(chan struct{})}
	command.Stdout, command.Stderr = &p.output, &p.output
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	reaper.DieWithParent(command.SysProcAttr)
	command.WaitDelay = time.Second // a grandchild may hold the output open
	if err := command.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		p.code = shellCode(command.Wait(), command)
	}()
	return p, nil
}

// kill kills the process group, and waits until the process has ended. It may have ended
// before.
func (p *process) kill() {
	p.signal(syscall.SIGCONT)
	syscall.Kill(-p.command.Process.Pid, syscall.SIGKILL)
	<-p.ended
}

func lookPath(path, program string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		if found, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return found, nil
		}
	}
	return "", fmt.Errorf("%s is not in %s", program, path)
}

// environ returns the environment that a script gives to its processes.
func environ(ts *testscript.TestScript) []string {
	s := stageOf(ts)
	var all []string
	seen := map[string]bool{}
	for _, variable := range slices.Backward(s.env.Vars) {
		name, _, _ := strings.Cut(variable, "=")
		if !seen[name] {
			seen[name] = true
			all = append(all, name+"="+ts.Getenv(name))
		}
	}
	for _, name := range []string{"DISC_AGENT", "DISC_ENDPOINTS", "DISC_WATCH"} {
		if !seen[name] {
			all = append(all, name+"="+ts.Getenv(name))
		}
	}
	return all
}

// shellCode returns the exit code of a command as a shell reports it, and -1 where Wait or Run failed with
// err for a reason of its own.
func shellCode(err error, c *exec.Cmd) int {
	if c.ProcessState == nil {
		return -1
	}
	if status, ok := c.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	if err != nil && c.ProcessState.ExitCode() == 0 && !errors.Is(err, exec.ErrWaitDelay) {
		return -1
	}
	return c.ProcessState.ExitCode()
}

func (p *process) signal(s syscall.Signal) { p.command.Process.Signal(s) }

// buffer has the output of a process. It is safe for concurrent use.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// await polls check until it holds, for at most [waitTimeout], and reports whether it held.
func await(check func() bool) bool {
	return poll(waitTimeout, func() error {
		if !check() {
			return errNotYet
		}
		return nil
	}) == nil
}

var errNotYet = errors.New("the condition does not hold")

// poll calls check every 20 ms until it returns nil, and at most for limit. It returns the last
// error.
func poll(limit time.Duration, check func() error) error {
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if err := check(); err == nil || time.Since(start) > limit {
			return err
		}
	}
}

// hasEnded reports whether the process has ended.
func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}
