package etcdtest

import "syscall"

// dyingWithParent has a program end with the process that started it.
func dyingWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// closedOnExec opens a pipe that other programs do not inherit.
func closedOnExec(pipe *[2]int) error { return syscall.Pipe2(pipe[:], syscall.O_CLOEXEC) }
