package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime returns the CPU time that all threads of a process have used so far, in user and
// kernel mode. It reads the clock of clock_getcpuclockid(3).
func cpuTime(pid int) (time.Duration, error) {
	const sched = 2 // CPUCLOCK_SCHED of the kernel's posix-timers.h
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|sched), &t); err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// The memory figures of /proc/PID/status (proc_pid_status(5)).
const (
	resident   = "VmRSS"
	peak       = "VmHWM"   // the most that was resident so far
	anonymous  = "RssAnon" // the resident pages of its own: heap and stacks
	fileBacked = "RssFile" // the resident pages of mapped files: its binary
)

// memory returns one of the memory figures of a process in MiB.
func memory(pid int, figure string) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if name, value, _ := strings.Cut(line, ":"); name == figure {
			kib, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("process %d has no %s: it has ended", pid, figure)
}
