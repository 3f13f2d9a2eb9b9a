// Package reaper reaps the orphans of an init process.
//
// A process that is the first of a container (process id 1) becomes the parent of each process
// whose own parent has ended. One that does not reap them collects zombies until no process can be
// started any more. exec checks and the commands of 'docker exec' leave orphans.
//
//	go reaper.Run(ctx)       // where os.Getpid() is 1
//	err := reaper.Start(cmd) // instead of cmd.Start
//	err = reaper.Wait(cmd)   // instead of cmd.Wait
package reaper

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
)

// own has the ids of the children that this process waits for itself. The lock is held while one is
// started, and while orphans are reaped.
var own = struct {
	sync.Mutex
	ids map[int]bool
}{ids: map[int]bool{}}

// Start starts a command. Wait must be called after it.
func Start(c *exec.Cmd) error {
	own.Lock()
	defer own.Unlock()
	err := c.Start()
	if err == nil {
		own.ids[c.Process.Pid] = true
	}
	return err
}

// Wait waits for a command that Start has started, as c.Wait does.
func Wait(c *exec.Cmd) error {
	err := c.Wait()
	own.Lock()
	delete(own.ids, c.Process.Pid)
	own.Unlock()
	return err
}

// Run reaps the children that end, except those of Start, until ctx ends. Nothing else in the process
// may wait for a child.
func Run(ctx context.Context) {
	ended := make(chan os.Signal, 1) // signals coalesce; one stands for all children
	signal.Notify(ended, syscall.SIGCHLD)
	defer signal.Stop(ended)
	for {
		reap()
		select {
		case <-ended:
		case <-ctx.Done():
			return
		}
	}
}

func reap() {
	own.Lock()
	defer own.Unlock()
	for _, id := range Children(os.Getpid()) {
		if !own.ids[id] {
			_, _ = syscall.Wait4(id, nil, syscall.WNOHANG, nil) // it still runs, or has ended and is gone now
		}
	}
}
