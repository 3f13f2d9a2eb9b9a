package reaper

import (
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// DieWithParent does nothing: macOS has no such attribute. A command outlives this process if that
// is killed.
func DieWithParent(*syscall.SysProcAttr) {}

// AwaitExit waits until a child of this process has ended, and does not reap it. It asks kqueue(2),
// since waitid(2) of macOS returns for a stopped child too.
func AwaitExit(pid int) {
	queue, err := unix.Kqueue()
	for err != nil { // too many files are open
		time.Sleep(10 * time.Millisecond)
		queue, err = unix.Kqueue()
	}
	defer unix.Close(queue)
	exit := []unix.Kevent_t{{Ident: uint64(pid), Filter: unix.EVFILT_PROC, Flags: unix.EV_ADD | unix.EV_ONESHOT, Fflags: unix.NOTE_EXIT}}
	for {
		// It is ESRCH when the child has ended already.
		if _, err := unix.Kevent(queue, exit, make([]unix.Kevent_t, 1), nil); !errors.Is(err, syscall.EINTR) {
			return
		}
	}
}
