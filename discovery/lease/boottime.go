package lease

import (
	"time"

	"golang.org/x/sys/unix"
)

// Uptime returns the time since the host booted, including the time that it was suspended
// (CLOCK_BOOTTIME). Go's timers stop during a suspension; a lease does not.
func Uptime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(err) // Linux has had this clock since 2.6.39
	}
	return time.Duration(t.Nano())
}
