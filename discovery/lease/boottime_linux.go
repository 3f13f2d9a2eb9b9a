package lease

import "golang.org/x/sys/unix"

// bootClock is the clock that goes on during a suspension (clock_gettime(2)).
const bootClock = unix.CLOCK_BOOTTIME
