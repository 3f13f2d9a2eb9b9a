package render

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"
	"time"
)

// Runner runs something again and again, never twice at once: what is asked for while it
// runs is met by one more run after it.
type Runner struct {
	run func(context.Context)
	due chan struct{}
}

// NewRunner returns a runner of run.
func NewRunner(run func(context.Context)) *Runner {
	return &Runner{run: run, due: make(chan struct{}, 1)}
}

// Request asks for a run. It does not wait for it.
func (r *Runner) Request() {
	select {
	case r.due <- struct{}{}:
	default:
	}
}

// Run runs what is asked for until ctx ends, and then what was asked for before. What is
// running then runs to its end: a file is there already, and no later change may come to
// make up for it.
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

// commandGrace is how long a command has between TERM and KILL, and how long what it
// leaves running may keep its output open.
const commandGrace = time.Second

// Shell runs a line with sh -c, at most for limit; then it and its descendants are
// stopped. What they print goes to out.
func Shell(ctx context.Context, line string, out io.Writer, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c := exec.CommandContext(ctx, "sh", "-c", line)
	c.Stdout, c.Stderr = out, out
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that all of it can be stopped
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGTERM) }
	c.WaitDelay = commandGrace
	err := c.Run()
	if ctx.Err() != nil && c.Process != nil {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // mostly nothing is left
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("run %q: it was stopped after %v", line, limit)
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return nil
	}
	return fmt.Errorf("run %q: %w", line, err)
}
