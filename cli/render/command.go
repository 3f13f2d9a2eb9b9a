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
// more run.
type Runner struct {
	run func(context.Context)
	due retry.Signal
}

// NewRunner returns a Runner of the function run.
func NewRunner(run func(context.Context)) *Runner {
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
	for {
		select {
		case <-r.due:
			r.run(lasting)
		case <-ctx.Done():
			select {
			case <-r.due:
				r.run(lasting)
			default:
			}
			return nil
		}
	}
}

// commandGrace is the time between TERM and KILL for a command, and the time that
// processes which it leaves running may keep its output open.
const commandGrace = time.Second

// Shell runs a line with sh -c. After limit, it stops the command and its descendants.
// Their output goes to out.
func Shell(ctx context.Context, line string, out io.Writer, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c := exec.CommandContext(ctx, "sh", "-c", line)
	c.Stdout, c.Stderr = out, out
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
		return fmt.Errorf("run %q: stopped after %v", line, limit)
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return nil
	}
	return fmt.Errorf("run %q: %w", line, err)
}
