package child_test

import (
	"os/exec"
	"syscall"
	"testing"
	"time"

	"disc/discovery/retry/retrytest"
)

// An orphan that ends while the command runs leaves no zombie behind.
func TestOrphanIsReaped(t *testing.T) {
	s := start(t, long, "sh", "-c", `(sh -c 'echo orphan $$; exec sleep 1000' &); exec sleep 1000`)
	command, orphan := s.pid("command"), s.pid("orphan")
	retrytest.Eventually(t, "the supervisor is the orphan's parent", func() bool { return parent(orphan) == s.Process.Pid })
	if err := syscall.Kill(orphan, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	retrytest.Eventually(t, "the orphan is gone, and no zombie", func() bool { return !exists(orphan) })
	if !runs(command) {
		t.Error("the command ended with its orphan")
	}
}

// Orphans end with the command, in another session too.
func TestOrphansEndWithTheCommand(t *testing.T) {
	s := start(t, long, "sh", "-c", `setsid sh -c 'echo orphan $$; exec sleep 1000' & read line; exit 5`)
	orphan := s.pid("orphan")
	if err := s.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if got := s.code(); got != 5 {
		t.Errorf("got exit code %d", got)
	}
	if exists(orphan) {
		t.Errorf("orphan %d is still there", orphan)
	}
}

// The command has ended, but its orphans and their children ignore TERM.
func TestOrphansAreKilledAfterTheGrace(t *testing.T) {
	s := start(t, 50*time.Millisecond, "sh", "-c",
		`sh -c 'trap "" TERM; sh -c "echo orphan \$\$; while :; do sleep 0.01; done"; true' & read line; exit 6`)
	orphan := s.pid("orphan")
	if err := s.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if got := s.code(); got != 6 {
		t.Errorf("got exit code %d", got)
	}
	if exists(orphan) {
		t.Errorf("orphan %d is still there", orphan)
	}
}

// Stop kills the whole tree if all its processes ignore TERM.
func TestStopKillsTheTree(t *testing.T) {
	s := start(t, 50*time.Millisecond, "sh", "-c",
		`trap "" TERM; sh -c 'echo orphan $$; while :; do sleep 0.01; done'; true`)
	orphan := s.pid("orphan")
	s.send(syscall.SIGTERM)
	if got := s.code(); got != 128+9 {
		t.Errorf("got exit code %d", got)
	}
	if exists(orphan) {
		t.Errorf("orphan %d is still there", orphan)
	}
}

// A child from before the command, as after exec in a shell, is left alone.
func TestInheritedChildrenAreLeftAlone(t *testing.T) {
	s := startWith(t, func(c *exec.Cmd) {
		supervisor := c.Path
		c.Path, c.Args = "/bin/sh", []string{"sh", "-c", `sleep 1000 & echo before $!; exec "$0" true`, supervisor}
	}, long)
	before := s.pid("before")
	t.Cleanup(func() { _ = syscall.Kill(before, syscall.SIGKILL) })
	s.stderr.await(t, "exit code 0")
	if !runs(before) {
		t.Error("the inherited process was killed")
	}
}

// The command ends when its supervisor is killed.
func TestKilledSupervisor(t *testing.T) {
	s := start(t, long, "sleep", "1000")
	command := s.pid("command")
	if !runs(command) {
		t.Fatal("the command does not run")
	}
	s.send(syscall.SIGKILL)
	s.code()
	retrytest.Eventually(t, "the command is gone", func() bool { return !runs(command) })
}
