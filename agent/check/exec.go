package check

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"disc/agent/reaper"
	"disc/discovery"
)

// killTimeout is how long a killed command may take to exit, and its output to end. It takes
// longer only when the kernel cannot end the process, as on a dead NFS mount.
const killTimeout = time.Second

// execProber runs a command: exit status 0 is passing, 1 is warning, any other is critical.
type execProber struct {
	command  []string
	timeout  time.Duration
	kill     func(group int)
	unreaped chan result // of the last run, if it did not exit when killed; else nil
}

func newExecProber(spec discovery.CheckSpec) *execProber {
	return &execProber{command: spec.Command, timeout: time.Duration(spec.Timeout), kill: killGroup}
}

func killGroup(group int) {
	// It fails only when no process is left in the group.
	_ = syscall.Kill(-group, syscall.SIGKILL)
}

// probe runs the command in its own process group and kills the whole group at the end. If a
// killed command does not exit, the probe gives up on it, and later probes start no other
// until it has exited.
func (p *execProber) probe(ctx context.Context) result {
	select {
	case <-p.unreaped:
		p.unreaped = nil
	default:
	}
	if p.unreaped != nil {
		return result{discovery.Critical, p.command[0] + ": an earlier run was killed and has not exited yet"}
	}
	done := make(chan result, 1)
	go func() { done <- p.run(ctx) }()
	select {
	case r := <-done:
		return r
	case <-ctx.Done():
	}
	giveUp := time.NewTimer(2 * killTimeout)
	defer giveUp.Stop()
	select {
	case r := <-done:
		return r
	case <-giveUp.C:
		p.unreaped = done
		return result{discovery.Critical, fmt.Sprintf("%s: killed after %v, but it has not exited", p.command[0], p.timeout)}
	}
}

func (p *execProber) run(ctx context.Context) result {
	// The kernel kills the command when the agent dies. To it, the parent is the thread that
	// forked: the thread must outlive the command, so this goroutine is locked to it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	var output headWriter
	cmd := exec.Command(p.command[0], p.command[1:]...)
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.WaitDelay = killTimeout // a descendant outside the group may hold the output open
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	reaper.DieWithParent(cmd.SysProcAttr)
	if err := reaper.Start(cmd); err != nil {
		return result{discovery.Critical, fmt.Sprintf("start %s: %v", p.command[0], err)}
	}
	timedOut := p.awaitExit(ctx, cmd.Process.Pid)
	err := reaper.Wait(cmd)
	if timedOut {
		return result{discovery.Critical, fmt.Sprintf("%s: killed after %v\n%s", p.command[0], p.timeout, output.buf)}
	}
	return exitResult(cmd, err, output.buf)
}

// awaitExit waits until the group's leader exits or ctx ends, and then kills the group. It does
// not reap the leader: until that happens, no other group can get its id.
func (p *execProber) awaitExit(ctx context.Context, pid int) (timedOut bool) {
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		reaper.AwaitExit(pid)
	}()
	select {
	case <-exited:
	case <-ctx.Done():
		timedOut = true
	}
	p.kill(pid)
	<-exited
	return timedOut
}

// exitResult returns the result of a command that has ended. The error of Wait counts only
// without an exit status: a descendant that holds the output open is not a failure.
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
