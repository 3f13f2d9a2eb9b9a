// Package child runs a command as a supervised child process, like the init process of a
// container.
//
//	p, err := child.Start(child.Command{Args: []string{"./web"}, Env: os.Environ(), Grace: 20 * time.Second})
//	...
//	p.Signal(syscall.SIGHUP)  // to the command
//	p.Stop(20 * time.Second)  // TERM, then KILL
//	<-p.Done()                // the command and its descendants have ended
//	os.Exit(p.Status().Code)
//
// # Descendants
//
// While the command runs, this process is the reaper of its descendants (prctl(2),
// PR_SET_CHILD_SUBREAPER): orphaned descendants become its children and leave no zombies.
// When the command ends, its remaining descendants get TERM and then KILL, even in another
// process group or session. Earlier children of this process are left alone.
//
// Start reaps all children of this process. So nothing else in the process may wait for a
// child (os/exec does), and only one command may run at a time.
//
// # When this process is killed
//
// If this process is killed, the kernel kills the command too, by KILL (prctl(2),
// PR_SET_PDEATHSIG). It does not kill the descendants of the command; init adopts them.
// A command that is only a wrapper should therefore exec the wrapped program. The kernel
// does not kill a command that changes its user or capabilities when it is executed
// (set-user-ID).
//
// # Terminals
//
// The command stays in the process group of this process, so that it may read the terminal
// and is suspended and resumed with this process. Signals from the terminal to the group
// (INT, QUIT, WINCH, and HUP when the terminal is closed) reach the command directly.
//
// # On macOS
//
// macOS has neither of these prctl(2): the descendants of a command that has ended are left to
// launchd, and a command outlives this process when that is killed.
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

// Command is a command to run.
type Command struct {
	// Args are the command, which is a path or a name to look up in PATH, and its
	// arguments.
	Args []string

	// Env is the environment, as "name=value". The last value of a name counts.
	Env []string

	// Grace is the time, at least 0, between TERM and KILL for the descendants that remain
	// when the command ends.
	Grace time.Duration
}

// Status tells how a command ended.
type Status struct {
	Code   int            // as in a shell: the exit code, or 128 plus the signal
	Signal syscall.Signal // the signal that killed the command; 0: none
}

func (s Status) String() string {
	if s.Signal != 0 {
		return "killed by " + unix.SignalName(s.Signal)
	}
	return fmt.Sprintf("exit code %d", s.Code)
}

// StartError reports that a command cannot be started.
type StartError struct {
	Command string
	Err     error
}

func (e *StartError) Error() string { return "run " + e.Command + ": " + e.Err.Error() }

// Unwrap returns the error of the system.
func (e *StartError) Unwrap() error { return e.Err }

// Code returns the exit code that shells use (POSIX, XCU 2.8.2): 127 if there is no such
// command, 126 if it cannot be executed.
func (e *StartError) Code() int {
	if errors.Is(e.Err, fs.ErrNotExist) || errors.Is(e.Err, exec.ErrNotFound) {
		return 127
	}
	return 126
}

// errInterpreter replaces the fs.ErrNotExist of a command that exists.
var errInterpreter = errors.New("its interpreter, or its loader, does not exist")

// Start starts a command with the standard input, output and error of this process. The
// error is a [*StartError]. The caller must wait for [Process.Done].
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

// lastValues drops each variable that is defined again later, because programs differ in
// which of two values they use.
func lastValues(env []string) []string {
	var last []string
	seen := map[string]bool{}
	for _, variable := range slices.Backward(env) {
		name, _, _ := strings.Cut(variable, "=")
		if !seen[name] {
			seen[name] = true
			last = append(last, variable)
		}
	}
	slices.Reverse(last)
	return last
}

// cause unwraps an error of exec.LookPath, whose text has the name of the command.
func cause(err error) error {
	if e := (*exec.Error)(nil); errors.As(err, &e) {
		err = e.Err
	}
	if e := (*fs.PathError)(nil); errors.As(err, &e) {
		err = e.Err
	}
	return err
}

// Exited returns a channel that is closed when the command has ended. Its descendants may
// still run.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Done returns a channel that is closed when the command and its descendants have ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Status returns how the command ended. It is valid after [Process.Exited].
func (p *Process) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

// Pid returns the command's process id.
func (p *Process) Pid() int { return p.pid }

// Signal sends a signal to the command, not to its descendants. It returns
// [os.ErrProcessDone] if the command has ended.
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

// Stop sends TERM to the command, and after the grace KILL to the command and its
// descendants. Of several calls, the earliest KILL counts. Stop does not wait.
func (p *Process) Stop(grace time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		terminate(p.pid)
	}
	p.killAfter(grace)
}
