package render

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"
	"time"

	"disc/agent/reaper"
	"disc/discovery/retry"
)

// Runner runs a function on request, never twice at once. Requests during a run lead to one
// more run. A run that fails is repeated, after longer and longer pauses of up to
// [retry.MaxDelay], until one succeeds.
type Runner struct {
	run func(ctx context.Context, failures int) error
	due retry.Signal
}

// NewRunner returns a Runner of the function run, which gets the number of runs that failed
// since the last request.
func NewRunner(run func(ctx context.Context, failures int) error) *Runner {
	return &Runner{run: run, due: retry.NewSignal()}
}

// Request requests a run. It does not wait for the run.
func (r *Runner) Request() {
	r.due.Notify()
}

// Run serves requests until ctx ends, including a request made before that. It lets a run
// complete: the file is already written, and there may be no later change that would run
// the command again.
func (r *Runner) Run(ctx context.Context) error {
	lasting := context.WithoutCancel(ctx)
	var backoff retry.Backoff
	for {
		var again <-chan time.Time
		if backoff.Failures() > 0 {
			again = time.After(backoff.Next())
		}
		select {
		case <-again:
		case <-r.due:
			backoff.Reset()
		case <-ctx.Done():
			select {
			case <-r.due:
				_ = r.run(lasting, 0) // run has said why
			default:
			}
			return nil
		}
		if r.run(lasting, backoff.Failures()) == nil {
			backoff.Reset()
		} else {
			backoff.Failed()
		}
	}
}

// commandGrace is the time between TERM and KILL for a command, and the time that
// processes which it leaves running may keep its output open.
const commandGrace = time.Second

// Command is a line for sh, with its streams.
type Command struct {
	Line           string
	Stdin          io.Reader     // nil: empty
	Stdout, Stderr io.Writer     // nil: discarded
	Limit          time.Duration // of its running time; 0: none
}

// Run runs the command. After the limit, or when ctx ends, it stops the command and its
// descendants.
func (cmd Command) Run(ctx context.Context) error {
	if cmd.Limit > 0 {
		limited, cancel := context.WithTimeout(ctx, cmd.Limit)
		defer cancel()
		ctx = limited
	}
	c := exec.CommandContext(ctx, "sh", "-c", cmd.Line)
	c.Stdin, c.Stdout, c.Stderr = cmd.Stdin, cmd.Stdout, cmd.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // to stop the descendants too
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGTERM) }
	c.WaitDelay = commandGrace
	err := reaper.Start(c)
	if err == nil {
		err = reaper.Wait(c)
	}
	if ctx.Err() != nil && c.Process != nil {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // mostly nothing is left
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("run %q: stopped after %v", cmd.Line, cmd.Limit)
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return nil
	}
	return fmt.Errorf("run %q: %w", cmd.Line, err)
}
