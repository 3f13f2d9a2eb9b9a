package check

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"disc/discovery"
)

// killTimeout is how long a killed command may take to be gone, and its output to end.
// More is needed only where the kernel cannot end a process, as on a dead NFS mount.
const killTimeout = time.Second

// execProber runs a command: exit 0 is passing, 1 warning, all else critical.
type execProber struct {
	command  []string
	timeout  time.Duration
	kill     func(group int)
	unreaped chan result // the last run, when it did not die; nil: none
}

func newExecProber(spec discovery.CheckSpec) *execProber {
	return &execProber{command: spec.Command, timeout: time.Duration(spec.Timeout), kill: killGroup}
}

func killGroup(group int) {
	// The only error is that nobody is left to kill.
	_ = syscall.Kill(-group, syscall.SIGKILL)
}

// probe runs the command in a process group of its own and leaves nothing of the
// group behind. When a killed command does not die, the probe gives up on it, and no
// other is started until it is gone.
func (p *execProber) probe(ctx context.Context) result {
	select {
	case <-p.unreaped:
		p.unreaped = nil
	default:
	}
	if p.unreaped != nil {
		return result{discovery.Critical, p.command[0] + ": an earlier run was killed and is not gone yet"}
	}
	done := make(chan result, 1)
	go func() { done <- p.run(ctx) }()
	select {
	case r := <-done:
		return r
	case <-ctx.Done():
	}
	patience := time.NewTimer(2 * killTimeout)
	defer patience.Stop()
	select {
	case r := <-done:
		return r
	case <-patience.C:
		p.unreaped = done
		return result{discovery.Critical, fmt.Sprintf("%s: killed after %v, but it does not die", p.command[0], p.timeout)}
	}
}

func (p *execProber) run(ctx context.Context) result {
	// Pdeathsig kills the command when the agent dies, but the kernel takes the death
	// of the thread that forked for that of the parent: the thread must outlive the
	// command, so this goroutine keeps it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	var output headWriter
	cmd := exec.Command(p.command[0], p.command[1:]...)
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.WaitDelay = killTimeout // for a descendant outside of the group that holds the output open
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return result{discovery.Critical, fmt.Sprintf("start %s: %v", p.command[0], err)}
	}
	late := p.awaitExit(ctx, cmd.Process.Pid)
	err := cmd.Wait()
	if late {
		return result{discovery.Critical, fmt.Sprintf("%s: killed after %v\n%s", p.command[0], p.timeout, output.buf)}
	}
	return exitResult(cmd, err, output.buf)
}

// awaitExit waits for the leader of a group to exit, or for ctx, and kills the group. The
// leader is not reaped before: until then its id cannot become another group's.
func (p *execProber) awaitExit(ctx context.Context, pid int) (late bool) {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
			if !errors.Is(err, syscall.EINTR) {
				return
			}
		}
	}()
	select {
	case <-gone:
	case <-ctx.Done():
		late = true
	}
	p.kill(pid)
	<-gone
	return late
}

// exitResult turns the end of a command into a result. The error of Wait counts only when
// there is no exit status: a descendant that held the output open is no failure.
func exitResult(cmd *exec.Cmd, err error, output []byte) result {
	if cmd.ProcessState == nil {
		return result{discovery.Critical, fmt.Sprintf("%s: %v", cmd.Path, err)}
	}
	switch cmd.ProcessState.ExitCode() {
	case 0:
		return result{discovery.Passing, string(output)}
	case 1:
		return result{discovery.Warning, string(output)}
	}
	return result{discovery.Critical, fmt.Sprintf("%s\n%s", cmd.ProcessState, output)}
}
