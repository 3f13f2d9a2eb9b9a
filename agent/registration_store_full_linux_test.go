package agent

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"disc/discovery"
	"disc/discovery/retry/retrytest"
)

// inFullDirectory is set in the process that TestFullDisk starts, to an empty directory.
const inFullDirectory = "DISC_TEST_FULL_DIRECTORY"

// TestFullDisk fills a small file system. It does so in a process with mounts of its own.
func TestFullDisk(t *testing.T) {
	if path := os.Getenv(inFullDirectory); path != "" {
		if err := unix.Mount("tmpfs", path, "tmpfs", 0, "size=64k,mode=700"); err != nil {
			t.Skip("cannot mount: ", err)
		}
		fillDisk(t, path)
		return
	}
	c := exec.Command(os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
	c.Env = append(os.Environ(), inFullDirectory+"="+t.TempDir())
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := c.CombinedOutput()
	var ended *exec.ExitError
	switch {
	case err != nil && !errors.As(err, &ended) || strings.Contains(string(out), "--- SKIP"):
		t.Skipf("this host lets no test mount a file system: %v\n%s", err, out)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	}
}

func fillDisk(t *testing.T, path string) {
	s, _ := storeIn(t, path)
	s.change(t, []string{"a", "b"}, nil)
	if err := os.WriteFile(filepath.Join(path, "filler"), make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	large := instance("large")
	large.Meta = discovery.Meta{"note": strings.Repeat("x", 10_000)}
	if err := s.put(keyOf("web", "large"), large).wait(t.Context()); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("put on a full disk: %v", err)
	}
	if err := s.remove(keyOf("web", "a")).wait(t.Context()); !errors.Is(err, unix.ENOSPC) { // large goes with it
		t.Fatalf("remove on a full disk: %v", err)
	}
	wantKept(t, path, "a", "b")
	if err := s.lostErr(); err == nil || !strings.Contains(err.Error(), "2 changes") {
		t.Errorf("lost: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { _ = s.Run(ctx) })
	defer run.Wait()
	defer cancel()
	if err := os.Remove(filepath.Join(path, "filler")); err != nil {
		t.Fatal(err)
	}
	retrytest.Succeeds(t, s.lostErr)
	wantKept(t, path, "b", "large")
}
