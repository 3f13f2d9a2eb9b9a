package child

import "syscall"

// terminate sends TERM, and CONT so that a suspended process handles it. It ignores errors:
// the process has ended, or this process may not signal it.
func terminate(pid int) {
	_ = syscall.Kill(pid, syscall.SIGTERM)
	_ = syscall.Kill(pid, syscall.SIGCONT)
}

// kill sends KILL. It ignores errors as terminate does.
func kill(pid int) { _ = syscall.Kill(pid, syscall.SIGKILL) }
