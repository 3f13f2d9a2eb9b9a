// Package child runs a command as a supervised child process, as the init of a
// container would.
//
//	p, err := child.Start(child.Command{Args: []string{"./web"}, Env: os.Environ(), Grace: 20 * time.Second})
//	...
//	p.Signal(syscall.SIGHUP)  // for the command
//	p.Stop(20 * time.Second)  // TERM, then KILL
//	<-p.Done()                // nothing of it is left
//	os.Exit(p.Status().Code)
//
// # Descendants
//
// While the command runs, this process is the reaper of its descendants (prctl(2),
// PR_SET_CHILD_SUBREAPER): those whose parents have ended become its children, and
// leave no zombies behind. Everything ends with the command: what it leaves running
// gets TERM and then KILL, wherever it has gone, into another process group or session
// too. Children that this process had before are left alone.
//
// All of this process's children are reaped here, so nothing else in it may wait for a
// process of its own (os/exec does), and it runs one command at a time.
//
// # When this process is killed
//
// The command dies with this process, by KILL, even when this process is killed itself
// and can do nothing about it (prctl(2), PR_SET_PDEATHSIG). The kernel promises that
// for the command alone: its descendants are then the system's, and end when they see
// to that themselves. A command that is only a wrapper should exec what it wraps. A
// command that changes its user or capabilities as it is executed (set-user-ID) loses
// the promise.
//
// # Terminals
//
// The command stays in this process's process group, so that it may read the terminal
// and is stopped and continued with this process. What the terminal sends to the group
// (INT, QUIT and WINCH; HUP when it goes away) reaches the command without this
// process's doing.
package child

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Command is what to run.
type Command struct {
	// Args are the command, a path or a name that is looked up in PATH, and its
	// arguments.
	Args []string

	// Env is the environment, "name=value" each; of several of one name the last counts.
	Env []string

	// Grace is how long processes that the command leaves behind have between TERM and
	// KILL, at least 0.
	Grace time.Duration
}

// Status is how a command ended.
type Status struct {
	Code   int            // as a shell has it: the exit code, or 128 and the signal
	Signal syscall.Signal // that killed it; 0: none
}

func (s Status) String() string {
	if s.Signal != 0 {
		return "killed by " + unix.SignalName(s.Signal)
	}
	return fmt.Sprintf("exit code %d", s.Code)
}

// StartError is the error of a command that cannot be started.
type StartError struct {
	Command string
	Err     error
}

func (e *StartError) Error() string { return "run " + e.Command + ": " + e.Err.Error() }

// Unwrap returns what the system says of the command.
func (e *StartError) Unwrap() error { return e.Err }

// Code is the exit code that shells have for it (POSIX, XCU 2.8.2): 127 when there is
// no such command, 126 when there is one that cannot be executed.
func (e *StartError) Code() int {
	if errors.Is(e.Err, fs.ErrNotExist) || errors.Is(e.Err, exec.ErrNotFound) {
		return 127
	}
	return 126
}

// errInterpreter is no fs.ErrNotExist: the command itself is there.
var errInterpreter = errors.New("its interpreter, or its loader, does not exist")

// Start starts a command with this process's standard input, output and error. The
// error is a [*StartError]. The caller waits for [Process.Done].
func Start(c Command) (*Process, error) {
	if len(c.Args) == 0 {
		return nil, &StartError{`""`, errors.New("no command is given")}
	}
	path, err := exec.LookPath(c.Args[0])
	if err != nil {
		return nil, &StartError{c.Args[0], cause(err)}
	}
	p := &Process{
		grace: c.Grace, terminated: map[int]bool{}, inherited: map[int]bool{},
		exited: make(chan struct{}), done: make(chan struct{}),
	}
	started := make(chan error, 1)
	go p.supervise(path, c, started)
	if err := <-started; err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = errInterpreter
		}
		return nil, &StartError{c.Args[0], err}
	}
	return p, nil
}

// lastValues drops every variable that a later one of the same name follows: programs do
// not agree on which of two counts.
func lastValues(env []string) []string {
	var kept []string
	seen := map[string]bool{}
	for _, variable := range slices.Backward(env) {
		name, _, _ := strings.Cut(variable, "=")
		if !seen[name] {
			seen[name] = true
			kept = append(kept, variable)
		}
	}
	slices.Reverse(kept)
	return kept
}

// cause takes the name of the command, and that it was looked for, out of an error.
func cause(err error) error {
	if e := (*exec.Error)(nil); errors.As(err, &e) {
		err = e.Err
	}
	if e := (*fs.PathError)(nil); errors.As(err, &e) {
		err = e.Err
	}
	return err
}

// Exited is closed when the command has ended; what it left behind may still be there.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Done is closed when the command and all that it left behind have ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Status returns how the command ended, once it has.
func (p *Process) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

// Pid returns the command's process id.
func (p *Process) Pid() int { return p.pid }

// Signal sends a signal to the command alone. The error is [os.ErrProcessDone] when
// that has ended.
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return os.ErrProcessDone
	}
	if err := syscall.Kill(p.pid, sig); err != nil {
		return fmt.Errorf("send %v to process %d: %w", sig, p.pid, err)
	}
	return nil
}

// Stop sends TERM to the command. Whatever of it and of its descendants is left after
// the grace is killed; of several calls, the earliest end of a grace counts. It does
// not wait.
func (p *Process) Stop(grace time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		terminate(p.pid)
	}
	p.killAfter(grace)
}
