package etcdtest

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// sweeper is the environment variable that makes a test's binary the sweeper of a directory.
const sweeper = "ETCDTEST_SWEEP"

// Sweep gives the tests a temporary directory of their own. When they end in any way, killed ones
// too, a process of its own kills all processes that they have left, on Linux, and removes the
// directory. It is called at the beginning of TestMain.
func Sweep() {
	if dir := os.Getenv(sweeper); dir != "" {
		_, _ = io.Copy(io.Discard, os.Stdin) // until the tests end
		sweep(dir)
		os.Exit(0)
	}
	if err := startSweeper(); err != nil {
		panic(err)
	}
}

func startSweeper() error {
	dir, err := os.MkdirTemp("", "disc-") // the path of a socket in it must be short
	if err != nil {
		return err
	}
	if err := os.Setenv("TMPDIR", dir); err != nil {
		return err
	}
	command := exec.Command(os.Args[0])
	command.Env = []string{sweeper + "=" + dir}
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt must not reach it
	// The other end of its input stays open until this process ends. An os.File would be
	// closed when it is collected.
	var pipe [2]int
	if err := closedOnExec(&pipe); err != nil {
		return err
	}
	input := os.NewFile(uintptr(pipe[0]), "pipe")
	defer input.Close()
	command.Stdin = input
	return command.Start()
}

// sweep kills the processes of a directory, those too that start meanwhile, and removes it.
func sweep(dir string) {
	for left := Processes(dir); len(left) > 0; left = Processes(dir) {
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
		time.Sleep(10 * time.Millisecond)
	}
	_ = os.RemoveAll(dir) // nobody is left to tell
}

// Processes returns the ids of the other processes that work in a directory, or have its path in
// their environment or command line. Zombies do not count. Without /proc, as on macOS, it finds none.
func Processes(dir string) (all []int) {
	entries, _ := filepath.Glob("/proc/[0-9]*") // the pattern is valid
	for _, entry := range entries {
		pid, err := strconv.Atoi(filepath.Base(entry))
		if err == nil && pid != os.Getpid() && belongs(entry, dir) {
			all = append(all, pid)
		}
	}
	return all
}

// belongs reports whether Processes lists a process, whose folder in /proc is entry. What
// cannot be read belongs to a process that has ended, or to another user.
func belongs(entry, dir string) bool {
	command, _ := os.ReadFile(filepath.Join(entry, "cmdline"))
	environment, _ := os.ReadFile(filepath.Join(entry, "environ"))
	folder, _ := os.Readlink(filepath.Join(entry, "cwd"))
	return len(command) > 0 && strings.Contains(string(command)+string(environment)+folder, dir)
}
