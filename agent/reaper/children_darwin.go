package reaper

import "golang.org/x/sys/unix"

// Children returns the ids of the processes whose parent is parent; none if the system does not
// list them.
func Children(parent int) []int {
	processes, err := unix.SysctlKinfoProcSlice("kern.proc.all")
	if err != nil {
		return nil
	}
	var all []int
	for _, p := range processes {
		if int(p.Eproc.Ppid) == parent {
			all = append(all, int(p.Proc.P_pid))
		}
	}
	return all
}
