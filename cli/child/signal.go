package child

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
)

// terminate sends TERM, and CONT for a process that is stopped and would not see it.
// The only error is that it may not be signalled or is gone: then there is nothing to
// be done, or no need to.
func terminate(pid int) {
	_ = syscall.Kill(pid, syscall.SIGTERM)
	_ = syscall.Kill(pid, syscall.SIGCONT)
}

// kill sends KILL; of its errors the same is true.
func kill(pid int) { _ = syscall.Kill(pid, syscall.SIGKILL) }

// children returns the ids of the processes whose parent is parent; none where there
// is no /proc.
func children(parent int) []int {
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

// parentOf reads the parent of a process from its line in proc(5); 0 when it is gone.
func parentOf(pid string) int {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0
	}
	// "12 (name) S 1 …": the name may have blanks and parentheses.
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
