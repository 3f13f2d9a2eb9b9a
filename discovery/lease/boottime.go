package lease

import (
	"time"

	"golang.org/x/sys/unix"
)

// Uptime is the time since the host started, with the time it was suspended: the
// clock of Go's timers stops then, and a lease does not.
func Uptime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(err) // Linux has had this clock since 2.6.39
	}
	return time.Duration(t.Nano())
}
