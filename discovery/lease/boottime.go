package lease

import (
	"time"

	"golang.org/x/sys/unix"
)

// Uptime returns the time since the host booted, including the time that it was suspended. Go's
// timers stop during a suspension; a lease does not.
func Uptime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(bootClock, &t); err != nil {
		panic(err) // Linux has had this clock since 2.6.39, macOS since 10.12
	}
	return time.Duration(t.Nano())
}
