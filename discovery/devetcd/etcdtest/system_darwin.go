package etcdtest

import "syscall"

// dyingWithParent does nothing, as macOS has no such call. Tests that are killed leave their programs
// behind: [Sweep] finds none without /proc.
func dyingWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

// closedOnExec opens a pipe that other programs do not inherit.
func closedOnExec(pipe *[2]int) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := syscall.Pipe(pipe[:]); err != nil {
		return err
	}
	syscall.CloseOnExec(pipe[0])
	syscall.CloseOnExec(pipe[1])
	return nil
}
