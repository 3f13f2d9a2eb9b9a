package reaper

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// DieWithParent has the kernel kill a command when the thread that started it ends: the caller
// locks its goroutine to the thread for as long as the command runs.
func DieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

// AwaitExit waits until a child of this process has ended, and does not reap it.
func AwaitExit(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, syscall.EINTR) {
			return
		}
	}
}
