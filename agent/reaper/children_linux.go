package reaper

import (
	"bytes"
	"os"
	"strconv"
)

// Children returns the ids of the processes whose parent is parent; none without /proc.
func Children(parent int) []int {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil
	}
	var all []int
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err == nil && parentOf(name) == parent {
			all = append(all, pid)
		}
	}
	return all
}

// parentOf reads the parent of a process from /proc/PID/stat, see proc(5). It returns 0 if
// the process has ended.
func parentOf(pid string) int {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0
	}
	// "12 (name) S 1 …": the name may contain spaces and parentheses.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	parent, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		return 0
	}
	return parent
}
