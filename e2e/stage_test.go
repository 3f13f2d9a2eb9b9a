package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"disc/discovery/devetcd"
)

// waitTimeout bounds every wait for something that is to come. It is reached only when
// it does not come.
const waitTimeout = 30 * time.Second

// stage is what one script has running.
type stage struct {
	env       *testscript.Env
	etcd      *devetcd.Server
	endpoint  string // of etcd, for good
	processes map[string]*process
	rows      []string // of the table of docs/asking.md, that were taken
}

type stageKey struct{}

func stageOf(ts *testscript.TestScript) *stage { return ts.Value(stageKey{}).(*stage) }

func (s *stage) close() {
	for _, p := range s.processes {
		p.kill()
	}
	if s.etcd != nil {
		s.etcd.Close()
	}
}

// startEtcd starts an etcd where the one before it was, with its data.
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

// process is a program that runs in the background.
type process struct {
	command *exec.Cmd
	output  buffer // stdout and stderr
	ended   chan struct{}
	code    int // valid when ended is closed: as a shell tells it
}

func (s *stage) start(ts *testscript.TestScript, name, program string, args ...string) *process {
	if old, ok := s.processes[name]; ok {
		select {
		case <-old.ended:
		default:
			ts.Fatalf("%s is running already", name)
		}
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

// launch starts a program in a process group of its own.
func launch(command *exec.Cmd) (*process, error) {
	p := &process{command: command, ended: make(chan struct{})}
	command.Stdout, command.Stderr = &p.output, &p.output
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.WaitDelay = time.Second // a grandchild may keep the output open
	if err := command.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		p.code = shellCode(command.Wait(), command)
	}()
	return p, nil
}

// kill ends a process with what it has started; often it is gone.
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

// environ is the script's environment, as the processes that it starts get it.
func environ(ts *testscript.TestScript) []string {
	s := stageOf(ts)
	var all []string
	seen := map[string]bool{}
	for n := len(s.env.Vars) - 1; n >= 0; n-- {
		name, _, _ := strings.Cut(s.env.Vars[n], "=")
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

func shellCode(err error, c *exec.Cmd) int {
	if status, ok := c.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	if err != nil && c.ProcessState.ExitCode() == 0 && !errors.Is(err, exec.ErrWaitDelay) {
		return -1
	}
	return c.ProcessState.ExitCode()
}

func (p *process) signal(s syscall.Signal) { p.command.Process.Signal(s) }

// buffer is written by a process and read by its script.
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

// await waits until check holds and reports whether it did in time.
func await(check func() bool) bool {
	for deadline := time.Now().Add(waitTimeout); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if check() {
			return true
		}
	}
	return check()
}
