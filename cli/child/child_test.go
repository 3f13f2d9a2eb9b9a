package child_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"disc/cli/child"
	"disc/discovery/retry/retrytest"
)

const long = time.Hour // a grace longer than any test

func TestExitCodes(t *testing.T) {
	for _, tt := range []struct {
		script string
		code   int
		status string
	}{
		{"exit 0", 0, "exit code 0"},
		{"exit 3", 3, "exit code 3"},
		{"exit 255", 255, "exit code 255"},
		{"kill -TERM $$", 128 + 15, "killed by SIGTERM"},
		{"kill -KILL $$", 128 + 9, "killed by SIGKILL"},
		{"kill -INT $$", 128 + 2, "killed by SIGINT"},
	} {
		t.Run(tt.script, func(t *testing.T) {
			s := start(t, long, "sh", "-c", tt.script)
			if got := s.code(); got != tt.code {
				t.Errorf("got exit code %d, want %d", got, tt.code)
			}
			if got := strings.TrimSpace(s.stderr.String()); got != tt.status {
				t.Errorf("got status %q, want %q", got, tt.status)
			}
		})
	}
}

func TestCannotStart(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	missing := filepath.Join(dir, "missing")
	plain := write("plain", "#!/bin/sh\n", 0o600)
	alien := write("alien", "#!"+missing+"\n", 0o700)
	garbage := write("garbage", "\x00\x01\x02", 0o700)
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{nil, 126, `run "": no command is given`},
		{[]string{missing}, 127, "run " + missing + ": no such file or directory"},
		{[]string{"no-such-command-anywhere"}, 127, "run no-such-command-anywhere: executable file not found in $PATH"},
		{[]string{plain}, 126, "run " + plain + ": permission denied"},
		{[]string{dir}, 126, "run " + dir + ": is a directory"},
		{[]string{alien}, 126, "run " + alien + ": its interpreter, or its loader, does not exist"},
		{[]string{garbage}, 126, "run " + garbage + ": exec format error"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			_, err := child.Start(child.Command{Args: tt.args})
			var failed *child.StartError
			if !errors.As(err, &failed) {
				t.Errorf("%q: got %v, want a StartError", tt.args, err)
				return
			}
			if err.Error() != tt.want || failed.Code() != tt.code {
				t.Errorf("%q: got %q, %d; want %q, %d", tt.args, err, failed.Code(), tt.want, tt.code)
			}
		})
	}
}

func TestStandardInputAndOutput(t *testing.T) {
	s := startWith(t, func(c *exec.Cmd) { c.Stdin = strings.NewReader("a\nb\n") }, long,
		"sh", "-c", `sed 's/^/in /'; echo err $1 >&2`, "sh", "an argument")
	if got := s.code(); got != 0 {
		t.Errorf("got exit code %d", got)
	}
	if got := s.stdout.String(); !strings.Contains(got, "in a\nin b\n") {
		t.Errorf("got stdout %q", got)
	}
	if got := s.stderr.String(); !strings.HasPrefix(got, "err an argument\n") {
		t.Errorf("got stderr %q", got)
	}
}

func TestEnvironment(t *testing.T) {
	s := startWith(t, func(c *exec.Cmd) { c.Env = append(c.Env, "COLOUR=blue") }, long, "sh", "-c", "echo colour $COLOUR")
	s.stdout.await(t, "colour blue")
}

func TestSignalsAreForwarded(t *testing.T) {
	s := startWith(t, func(c *exec.Cmd) { c.Env = append(c.Env, "INNER=signals") }, long, os.Args[0])
	s.stdout.await(t, "ready")
	s.send(syscall.SIGHUP)
	s.stdout.await(t, "got hangup")
	s.send(syscall.SIGUSR1)
	s.stdout.await(t, "got user defined signal 1")
	if got := s.code(); got != 7 {
		t.Errorf("got exit code %d", got)
	}
}

func TestSignalAfterTheEnd(t *testing.T) {
	p, err := child.Start(child.Command{Args: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if err := p.Signal(syscall.SIGHUP); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("got %v, want %v", err, os.ErrProcessDone)
	}
	p.Stop(0)
}

func TestStop(t *testing.T) {
	s := start(t, long, "sh", "-c", `trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.01; done`)
	s.stdout.await(t, "ready")
	s.send(syscall.SIGTERM)
	if got := s.code(); got != 9 {
		t.Errorf("got exit code %d, want the command's own", got)
	}
	s.stdout.await(t, "bye")
}

// A suspended command would not handle TERM.
func TestStopOfStopped(t *testing.T) {
	s := start(t, long, "sh", "-c", `trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done`)
	pid := s.pid("command")
	s.stdout.await(t, "ready")
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	retrytest.Eventually(t, "the command is stopped", func() bool { return stat(pid)[0] == "T" })
	s.send(syscall.SIGTERM)
	if got := s.code(); got != 9 {
		t.Errorf("got exit code %d", got)
	}
}

func TestKilledAfterTheGrace(t *testing.T) {
	s := start(t, 50*time.Millisecond, "sh", "-c", `trap '' TERM; echo ready; while :; do sleep 0.01; done`)
	s.stdout.await(t, "ready")
	s.send(syscall.SIGTERM)
	if got := s.code(); got != 128+9 {
		t.Errorf("got exit code %d", got)
	}
}

func TestShorterGraceCounts(t *testing.T) {
	p, err := child.Start(child.Command{Args: []string{"sh", "-c", "trap '' TERM; while :; do sleep 0.01; done"}, Env: os.Environ(), Grace: long})
	if err != nil {
		t.Fatal(err)
	}
	p.Stop(long)
	p.Stop(time.Millisecond)
	p.Stop(long)
	select {
	case <-p.Done():
	case <-time.After(patience):
		t.Fatal("not killed")
	}
	if got := p.Status().Code; got != 128+9 && got != 128+15 { // 15: the trap was not yet set
		t.Errorf("got exit code %d", got)
	}
}
