package check

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"disc/discovery"
)

// fifo makes a named pipe: a read waits until something is written.
func fifo(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// pidIn reads the pid that a command writes; from a fifo it waits for it.
func pidIn(t *testing.T, file string) int {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if dead(t, pid, 0) {
			return
		}
		syscall.Kill(pid, syscall.SIGKILL)
	})
	return pid
}

// patience is the time for a process to die that must die.
const patience = time.Minute

// dead reports whether a process is dead or dies within the given time.
func dead(t *testing.T, pid int, within time.Duration) bool {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return true
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(within.Milliseconds()))
		if err != unix.EINTR {
			return n == 1
		}
	}
}

func TestExecStatuses(t *testing.T) {
	for _, test := range []struct {
		command []string
		want    discovery.Status
		says    string
	}{
		{[]string{"/bin/sh", "-c", "echo fine; echo so far >&2"}, discovery.Passing, "fine\nso far"},
		{[]string{"/bin/sh", "-c", "echo hm; exit 1"}, discovery.Warning, "hm"},
		{[]string{"/bin/sh", "-c", "echo no; exit 2"}, discovery.Critical, "exit status 2\nno"},
		{[]string{"/bin/sh", "-c", "kill -TERM $$"}, discovery.Critical, "signal: terminated"},
		{[]string{"echo", "$HOME;", "*"}, discovery.Passing, "$HOME; *"},
		{[]string{"/no/such/probe"}, discovery.Critical, "start /no/such/probe"},
	} {
		t.Run(strings.Join(test.command, " "), func(t *testing.T) {
			r := probeOnce(t, discovery.CheckSpec{Type: discovery.CheckExec, Command: test.command})
			if r.status != test.want || !strings.Contains(r.output, test.says) {
				t.Errorf("%q: got %+v, want %s, %q", test.command, r, test.want, test.says)
			}
		})
	}
}

func TestExecOutputIsTrimmed(t *testing.T) {
	r := probeOnce(t, shell("head -c 1048576 /dev/zero | tr '\\0' x", time.Minute))
	if r.status != discovery.Passing || len(r.output) != MaxOutput {
		t.Errorf("%s with %d bytes", r.status, len(r.output))
	}
}

func TestExecTimeoutKillsTheGroup(t *testing.T) {
	file := fifo(t)
	// The child ignores what can be ignored and outlives its parent.
	script := fmt.Sprintf(`(trap '' TERM INT HUP; exec sleep 1000) & echo $! > %s; wait`, file)
	ctx, timeout := context.WithCancel(t.Context())
	results := make(chan result)
	go func() { results <- newExecProber(shell(script, time.Minute)).probe(ctx) }()
	child := pidIn(t, file)
	if dead(t, child, 0) {
		t.Fatal("the child is dead: this test shows nothing")
	}
	timeout()
	if r := <-results; r.status != discovery.Critical || !strings.Contains(r.output, "killed after 1m0s") {
		t.Errorf("got %+v", r)
	}
	if !dead(t, child, patience) {
		t.Error("the child is alive")
	}
}

func TestExecLeavesNoChildBehind(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	r := probeOnce(t, shell(fmt.Sprintf(`sleep 1000 & echo $! > %s; echo done`, file), time.Minute))
	if r.status != discovery.Passing || r.output != "done" {
		t.Errorf("got %+v", r)
	}
	if !dead(t, pidIn(t, file), patience) {
		t.Error("the child is alive")
	}
}

// A daemon that has left the group is not killed with it and holds the output open, but does
// not delay the check.
func TestExecGrandchildHoldsOutput(t *testing.T) {
	t.Parallel()
	file, ready := filepath.Join(t.TempDir(), "pid"), fifo(t)
	script := fmt.Sprintf(`setsid sh -c 'echo $$ > %s; echo > %s; exec sleep 1000' & read x < %[2]s; echo done`, file, ready)
	r := probeOnce(t, shell(script, time.Minute))
	if r.status != discovery.Passing || r.output != "done" {
		t.Errorf("got %+v", r)
	}
	if dead(t, pidIn(t, file), 0) {
		t.Error("the grandchild is dead: this test shows nothing")
	}
}

// A command that cannot be killed is abandoned, and no other is started beside it.
func TestExecThatDoesNotExit(t *testing.T) {
	t.Parallel()
	p := newExecProber(shell("exec sleep 1000", time.Minute))
	groups := make(chan int, 1)
	p.kill = func(group int) { groups <- group }
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := p.probe(ctx); r.status != discovery.Critical || !strings.Contains(r.output, "has not exited") {
		t.Errorf("first: got %+v", r)
	}
	if r := p.probe(t.Context()); r.status != discovery.Critical || !strings.Contains(r.output, "not exited yet") {
		t.Errorf("second: got %+v", r)
	}
	killGroup(<-groups)
	p.unreaped <- <-p.unreaped // it has exited
	p.command, p.kill = []string{"echo", "again"}, killGroup
	if r := p.probe(t.Context()); r.status != discovery.Passing {
		t.Errorf("third: got %+v", r)
	}
}

func TestExecDiesWithTheAgent(t *testing.T) {
	file := fifo(t)
	agent := exec.Command(os.Args[0])
	agent.Env = append(os.Environ(), agentEnv+"="+fmt.Sprintf(`echo $$ > %s; exec sleep 1000`, file))
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	pid := pidIn(t, file)
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait() // "signal: killed"
	if !dead(t, pid, patience) {
		t.Error("the command is alive")
	}
}
