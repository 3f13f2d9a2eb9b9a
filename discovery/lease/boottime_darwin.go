package lease

import "golang.org/x/sys/unix"

// bootClock is the clock that goes on during a suspension, and that nobody sets: macOS reads it
// from mach_continuous_time (clock_gettime(3)).
const bootClock = unix.CLOCK_MONOTONIC_RAW
