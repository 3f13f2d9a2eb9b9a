package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"disc/agent"
	"disc/agent/api"
	"disc/agent/reaper"
	"disc/config"
	"disc/discovery"
	"disc/discovery/lookup"
	"disc/discovery/retry/retrytest"
)

// patience is the time limit of waits for an event that must happen. It only affects how
// soon a failing test ends.
const patience = time.Minute

// buffer collects the output of a process.
type buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// program is a process of the disc program.
type program struct {
	*exec.Cmd
	t              *testing.T
	stdout, stderr buffer
	ended          chan struct{}
}

// asProgram is the variable that makes the test binary act as the disc program. Signals and
// exit codes need a process of its own.
const asProgram = "CLI_TEST_PROGRAM"

// announced is the variable that makes the program print programRuns on stderr once it
// catches signals.
const (
	announced   = "CLI_TEST_ANNOUNCED"
	programRuns = "the program runs"
)

// TestProgram is the disc program for startDisc. It tests nothing by itself.
func TestProgram(t *testing.T) {
	if os.Getenv(asProgram) == "" {
		return
	}
	ctx := NotifyContext(context.Background())
	if os.Getenv(announced) != "" {
		fmt.Fprintln(os.Stderr, programRuns)
	}
	os.Exit(Main(ctx, flag.Args(), System()))
}

// startDisc starts the disc program with an agent's address.
func startDisc(t *testing.T, agent string, args ...string) *program {
	t.Helper()
	return startDiscWith(t, agent, nil, nil, args...)
}

// startDiscWith is startDisc with further variables and a stdin.
func startDiscWith(t *testing.T, agent string, env map[string]string, stdin io.Reader, args ...string) *program {
	t.Helper()
	p := &program{Cmd: exec.Command(os.Args[0], append([]string{"-test.run=^TestProgram$", "--"}, args...)...), t: t, ended: make(chan struct{})}
	p.Env = append(os.Environ(), asProgram+"=1", "HOME="+t.TempDir(), "DISC_AGENT="+agent, "DISC_NODE=n1", "DISC_DRAIN_DELAY=0s",
		"DISC_DATA_DIR="+t.TempDir(), "DISC_ENDPOINTS=127.0.0.1:1") // nothing that this machine has
	for name, value := range env {
		p.Env = append(p.Env, name+"="+value)
	}
	p.Stdin, p.Stdout, p.Stderr = stdin, &p.stdout, &p.stderr
	p.SysProcAttr = &syscall.SysProcAttr{}
	reaper.DieWithParent(p.SysProcAttr) // if the tests are killed
	p.WaitDelay = patience
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.Wait() // the tests check the exit code
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.ended
		if t.Failed() {
			t.Logf("disc %s\nstdout:\n%s\nstderr:\n%s", strings.Join(args, " "), &p.stdout, &p.stderr)
		}
	})
	return p
}

// code waits for the exit code.
func (p *program) code() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatal("the program does not end")
	}
	return p.ProcessState.ExitCode()
}

func (p *program) send(sig syscall.Signal) {
	p.t.Helper()
	if err := p.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// says waits until the command that the program runs prints a text.
func (p *program) says(text string) {
	p.t.Helper()
	retrytest.Eventually(p.t, "stdout has "+text, func() bool { return strings.Contains(p.stdout.String(), text) })
}

// warns waits until the program itself prints a text.
func (p *program) warns(text string) {
	p.t.Helper()
	retrytest.Eventually(p.t, "stderr has "+text, func() bool { return strings.Contains(p.stderr.String(), text) })
}

// sidecar is an agent that runs until it is stopped or the test ends.
type sidecar struct {
	t    *testing.T
	url  string
	api  *api.Client
	stop func()
}

// startAgent runs an agent with a data directory, at an address or, with "", at a free port.
func startAgent(t *testing.T, etcd, listen, dir string) *sidecar {
	t.Helper()
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	env := map[string]string{
		"HOME": dir, "DISC_ENDPOINTS": etcd, "DISC_HTTP": listen, "DISC_DATA_DIR": filepath.Join(dir, "data"),
		"DISC_NODE": "n1", "DISC_DRAIN_DELAY": "0s", "DISC_DNS": "127.0.0.1:0",
	}
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	config.AddFlags(flags, config.Global, config.Agent)
	cfg, err := config.Load(t.Context(), flags, config.Host{Hostname: "n1", EUID: 1, Env: func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	}})
	if err != nil {
		t.Fatal(err)
	}
	a, err := agent.New(t.Context(), cfg, agent.Options{Logger: slog.New(slog.DiscardHandler), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	client, err := api.NewClient("http://" + a.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	s := &sidecar{t: t, url: "http://" + a.Addr().String(), api: client, stop: sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		client.CloseIdle()
	})}
	t.Cleanup(s.stop)
	return s
}

// answers waits until a lookup returns n endpoints.
func (s *sidecar) answers(name string, want int) lookup.Answer {
	s.t.Helper()
	var answer lookup.Answer
	retrytest.Eventually(s.t, fmt.Sprintf("%s has %d endpoints", name, want), func() bool {
		var err error
		answer, _, err = s.api.Lookup(s.t.Context(), name, api.LookupOptions{})
		if want == 0 && errors.Is(err, discovery.ErrNotFound) {
			return true
		}
		return err == nil && len(answer.Endpoints) == want
	})
	return answer
}
