package child

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"disc/agent/reaper"
)

// Process is a command that was started.
type Process struct {
	pid    int
	grace  time.Duration
	exited chan struct{} // closed when the command has ended
	done   chan struct{} // closed when the descendants have ended too

	// mu is held while processes are reaped and signalled: the system does not reuse the
	// id of a process before it is reaped.
	mu         sync.Mutex
	ended      bool // the command has ended
	finished   bool // the descendants have ended too
	status     Status
	inherited  map[int]bool // earlier children of this process, to leave alone
	terminated map[int]bool // descendants that have been sent TERM
	killing    bool         // the grace is over
	deadline   time.Time    // end of the grace; zero: not set
	timer      *time.Timer
}

// supervise starts the command, and reaps until the command and its descendants have ended.
func (p *Process) supervise(path string, c Command, started chan<- error) {
	// The kernel kills the command when the thread that forked it ends, so this goroutine
	// keeps the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.fork(path, c)
	started <- err
	if err != nil {
		return
	}
	for p.reap() {
		p.awaitChild()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finished = true
	p.timer.Stop()
	_ = adopt(false) // cannot fail, since setting it succeeded
	close(p.done)
}

func (p *Process) fork(path string, c Command) error {
	if err := adopt(true); err != nil {
		return fmt.Errorf("become the reaper of its descendants: %w", err)
	}
	for _, pid := range reaper.Children(os.Getpid()) {
		p.inherited[pid] = true
	}
	attributes := &syscall.SysProcAttr{}
	reaper.DieWithParent(attributes)
	pid, err := syscall.ForkExec(path, c.Args, &syscall.ProcAttr{
		Env:   lastValues(c.Env),
		Files: []uintptr{0, 1, 2},
		Sys:   attributes,
	})
	if err != nil {
		_ = adopt(false)
		return err
	}
	p.pid = pid
	return nil
}

// unknownStatus is the status, exit code 255, of a command that something else has reaped.
const unknownStatus = syscall.WaitStatus(255 << 8)

// reap reaps all children that have ended. It reports whether the command or a descendant
// is left.
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

// commandEnded records the status of the command and starts the grace of its descendants.
func (p *Process) commandEnded(how syscall.WaitStatus) {
	p.ended = true
	p.status = Status{Code: how.ExitStatus()}
	if how.Signaled() {
		p.status = Status{Code: 128 + int(how.Signal()), Signal: how.Signal()}
	}
	p.killAfter(p.grace)
	close(p.exited)
}

// signalDescendants signals the descendants of the ended command, and reports whether there
// are any. An orphan becomes a child of this process before its parent can be reaped, so a
// call after each reaping misses none.
func (p *Process) signalDescendants() bool {
	remaining := false
	for _, pid := range reaper.Children(os.Getpid()) {
		if p.inherited[pid] {
			continue
		}
		remaining = true
		switch {
		case p.killing:
			kill(pid)
		case !p.terminated[pid]:
			p.terminated[pid] = true
			terminate(pid)
		}
	}
	return remaining
}

// killAfter kills the processes that are left after d, unless an earlier time is set.
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

// kill kills the command or, once it has ended, its descendants. Their own descendants are
// killed when they are reaped.
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
