package child

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a command that was started.
type Process struct {
	pid    int
	grace  time.Duration
	exited chan struct{} // closed when the command has ended
	done   chan struct{} // closed when nothing is left

	// mu is held while processes are reaped and while they are sent signals: until a
	// process is reaped, its id cannot become another's.
	mu         sync.Mutex
	ended      bool // the command
	finished   bool // nothing is left
	status     Status
	inherited  map[int]bool // children from before, which are left alone
	terminated map[int]bool // what was left behind and has been sent TERM
	killing    bool         // the grace is over
	deadline   time.Time    // when that is; zero: there is none yet
	timer      *time.Timer
}

// supervise starts the command and reaps until nothing is left.
func (p *Process) supervise(path string, c Command, started chan<- error) {
	// The kernel takes the end of the thread that forked for the end of the parent, and
	// kills the command: the thread must live as long.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.fork(path, c)
	started <- err
	if err != nil {
		return
	}
	for p.reap() {
		awaitChild()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finished = true
	p.timer.Stop()
	_ = setSubreaper(0) // as it was set, so can it be unset
	close(p.done)
}

func (p *Process) fork(path string, c Command) error {
	if err := setSubreaper(1); err != nil {
		return fmt.Errorf("become the reaper of its descendants: %w", err)
	}
	for _, pid := range children(os.Getpid()) {
		p.inherited[pid] = true
	}
	pid, err := syscall.ForkExec(path, c.Args, &syscall.ProcAttr{
		Env:   lastValues(c.Env),
		Files: []uintptr{0, 1, 2},
		Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		_ = setSubreaper(0)
		return err
	}
	p.pid = pid
	return nil
}

func setSubreaper(on uintptr) error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, on, 0, 0, 0)
}

// unknownStatus stands for the status of a command that somebody else has reaped: exit code 255.
const unknownStatus = syscall.WaitStatus(255 << 8)

// awaitChild blocks until a child has ended, which it leaves to be reaped.
func awaitChild() {
	for {
		err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, syscall.EINTR) {
			return
		}
	}
}

// reap takes away all children that have ended, and reports whether there is more to
// wait for.
func (p *Process) reap() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		var how syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &how, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.ECHILD) && !p.ended:
			p.commandEnded(unknownStatus)
		}
		if err != nil || pid == 0 {
			return !p.ended || p.signalDescendants()
		}
		delete(p.terminated, pid)
		delete(p.inherited, pid)
		if pid == p.pid {
			p.commandEnded(how)
		}
	}
}

// commandEnded notes that the command has ended: now all that it left behind has to.
func (p *Process) commandEnded(how syscall.WaitStatus) {
	p.ended = true
	p.status = Status{Code: how.ExitStatus()}
	if how.Signaled() {
		p.status = Status{Code: 128 + int(how.Signal()), Signal: how.Signal()}
	}
	p.killAfter(p.grace)
	close(p.exited)
}

// signalDescendants signals what the ended command left behind, and reports whether there is any.
// A process becomes this one's child before its parent can be reaped, so that a sweep
// after each reaping misses none.
func (p *Process) signalDescendants() bool {
	left := false
	for _, pid := range children(os.Getpid()) {
		if p.inherited[pid] {
			continue
		}
		left = true
		switch {
		case p.killing:
			kill(pid)
		case !p.terminated[pid]:
			p.terminated[pid] = true
			terminate(pid)
		}
	}
	return left
}

// killAfter ends the grace after d, or when it ends already, whichever is earlier.
func (p *Process) killAfter(d time.Duration) {
	deadline := time.Now().Add(d)
	if p.finished || !p.deadline.IsZero() && !deadline.Before(p.deadline) {
		return
	}
	p.deadline = deadline
	if p.timer != nil {
		p.timer.Stop()
	}
	p.timer = time.AfterFunc(d, p.kill)
}

// kill kills what is left. Descendants of what it kills are found by the sweep that
// follows.
func (p *Process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.finished {
		return
	}
	p.killing = true
	if p.ended {
		p.signalDescendants()
		return
	}
	kill(p.pid)
}
