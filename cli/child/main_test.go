package child_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"disc/agent/reaper"
	"disc/cli/child"
)

// The test binary also acts as the programs that the tests run. This variable names the
// program.
const program = "CHILD_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if run, ok := programs()[os.Getenv(program)]; ok {
		os.Exit(run(os.Args[1:]))
	}
	// The parent may ignore SIGHUP, as nohup does, and the children of the tests would
	// inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	goleak.VerifyTestMain(m)
}

func programs() map[string]func(args []string) int {
	return map[string]func([]string) int{"supervise": supervise, "signals": signals}
}

// supervise runs the command in its arguments as `disc run` does. It forwards USR1 and HUP,
// stops the command at TERM with the grace of GRACE, and ends with its code. It prints the
// process id of the command.
func supervise(args []string) int {
	grace, err := time.ParseDuration(os.Getenv("GRACE"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	received := make(chan os.Signal, 16)
	signal.Notify(received, syscall.SIGUSR1, syscall.SIGHUP, syscall.SIGTERM)
	p, err := child.Start(child.Command{Args: args, Env: withProgram(os.Getenv("INNER")), Grace: grace})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		var failed *child.StartError
		errors.As(err, &failed)
		return failed.Code()
	}
	fmt.Println("command", p.Pid())
	for {
		select {
		case s := <-received:
			if s == syscall.SIGTERM {
				p.Stop(grace)
			} else if err := p.Signal(s.(syscall.Signal)); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		case <-p.Done():
			fmt.Fprintln(os.Stderr, p.Status())
			return p.Status().Code
		}
	}
}

// signals prints the signals that it gets, until USR1 follows a HUP.
func signals([]string) int {
	received := make(chan os.Signal, 16)
	signal.Notify(received, syscall.SIGUSR1, syscall.SIGHUP)
	fmt.Println("ready")
	var before os.Signal
	for s := range received {
		fmt.Println("got", s)
		if s == syscall.SIGUSR1 && before == syscall.SIGHUP {
			return 7
		}
		before = s
	}
	return 1
}

// withProgram returns the environment that selects a program.
func withProgram(name string) []string {
	return append(os.Environ(), program+"="+name)
}

// supervised is a process of the program supervise.
type supervised struct {
	*exec.Cmd
	t      *testing.T
	stdin  io.Closer
	stdout *lines
	stderr *lines
	ended  chan struct{}
}

// start runs a command under supervise.
func start(t *testing.T, grace time.Duration, args ...string) *supervised {
	return startWith(t, nil, grace, args...)
}

func startWith(t *testing.T, prepare func(*exec.Cmd), grace time.Duration, args ...string) *supervised {
	t.Helper()
	s := &supervised{Cmd: exec.Command(os.Args[0], args...), t: t, stdout: newLines(), stderr: newLines(), ended: make(chan struct{})}
	s.Env = append(withProgram("supervise"), "GRACE="+grace.String())
	s.Stdout, s.Stderr = s.stdout, s.stderr
	s.SysProcAttr = &syscall.SysProcAttr{}
	reaper.DieWithParent(s.SysProcAttr) // if the tests are killed
	s.WaitDelay = patience
	if prepare != nil {
		prepare(s.Cmd)
	}
	if s.Stdin == nil {
		stdin, err := s.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		s.stdin = stdin
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.ended)
		_ = s.Wait() // the tests check the exit code
	}()
	t.Cleanup(func() {
		_ = s.Process.Kill()
		<-s.ended
	})
	return s
}

// code waits for the exit code.
func (s *supervised) code() int {
	s.t.Helper()
	select {
	case <-s.ended:
	case <-time.After(patience):
		s.t.Fatalf("did not end; stdout:\n%s\nstderr:\n%s", s.stdout, s.stderr)
	}
	return s.ProcessState.ExitCode()
}

func (s *supervised) send(sig syscall.Signal) {
	s.t.Helper()
	if err := s.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// pid waits for a line of stdout, "<name> <pid>".
func (s *supervised) pid(name string) int {
	s.t.Helper()
	line := s.stdout.await(s.t, name+" ")
	pid, err := strconv.Atoi(strings.TrimPrefix(line, name+" "))
	if err != nil {
		s.t.Fatalf("line %q: %v", line, err)
	}
	return pid
}
