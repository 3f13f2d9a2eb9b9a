package e2e_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// runsDocker reports whether a host of new namespaces can have what Docker needs: a bridge, network
// address translation, an overlay of files, and control groups.
func runsDocker() bool {
	const needs = `ip link add probe type bridge && iptables -w -t nat -nL >/dev/null && mount -t tmpfs none /run &&
		mkdir /run/upper /run/work && mount -t overlay none -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work /etc &&
		find /sys/fs/cgroup -maxdepth 1 -type d -writable | grep -q .`
	return exec.Command("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", needs).Run() == nil
}

// removeControlGroups removes the control groups that a Docker has left which did not end by itself.
// The script compose names them after a process.
func removeControlGroups(pid int) {
	tops, _ := filepath.Glob(fmt.Sprintf("/sys/fs/cgroup/*/disc-%d", pid))
	tops = append(tops, fmt.Sprintf("/sys/fs/cgroup/disc-%d", pid))
	for _, top := range tops {
		var groups []string
		_ = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				groups = append(groups, path)
			}
			return nil
		})
		slices.Reverse(groups) // the innermost first
		for _, group := range groups {
			_ = os.Remove(group)
		}
	}
}
