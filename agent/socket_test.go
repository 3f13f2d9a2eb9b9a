package agent

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"disc/config/safefile"
	"disc/discovery/devetcd/etcdtest"
)

// socketDir returns a directory whose path is short enough for a socket's.
func socketDir(t *testing.T) string {
	t.Helper()
	dir := etcdtest.Must(os.MkdirTemp("", "disc-"))
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// staleSocket leaves a socket that nobody listens on.
func staleSocket(t *testing.T, path string) {
	t.Helper()
	l := etcdtest.Must(net.Listen("unix", path)).(*net.UnixListener)
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestSocketReplacesAStaleOneOnly(t *testing.T) {
	const stranger = 65534
	for _, test := range []struct {
		name, want string // "" is success
		prepare    func(path string) error
	}{
		{"nothing", "", func(string) error { return nil }},
		{"stale socket", "", func(path string) error { staleSocket(t, path); return nil }},
		{"regular file", "there is something else than a socket (-rw-------); it stays: move it away", func(path string) error { return os.WriteFile(path, []byte("precious"), 0o600) }},
		{"directory", "something else than a socket (drwx------)", func(path string) error { return os.Mkdir(path, 0o700) }},
		{"FIFO", "something else than a socket (prw", func(path string) error { return unix.Mkfifo(path, 0o600) }},
		{"link to a stale socket", "something else than a socket (L", func(path string) error { staleSocket(t, path+"-real"); return os.Symlink(path+"-real", path) }},
		{"dangling link", "something else than a socket (L", func(path string) error { return os.Symlink("nowhere", path) }},
		{"datagram socket", "another program's socket may be there", func(path string) error {
			c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
			t.Cleanup(func() { c.Close() })
			return err
		}},
		{"somebody listens", "is in use: stop the process", func(path string) error {
			l, err := net.Listen("unix", path)
			t.Cleanup(func() { l.Close() })
			return err
		}},
		{"another agent listens", "is in use: stop the process", func(path string) error {
			l, err := listenSocket(t.Context(), path, false, slog.New(slog.DiscardHandler))
			t.Cleanup(func() { l.Close() })
			return err
		}},
		{"another agent is opening it", "is in use: stop the process", func(path string) error {
			staleSocket(t, path)
			lock, err := os.Create(path + ".lock")
			t.Cleanup(func() { lock.Close() })
			return errors.Join(err, unix.Flock(int(lock.Fd()), unix.LOCK_EX))
		}},
		{"lock file of another user", "s.lock belongs to user id 65534 (mode 0644), and this process runs as user id 0: chown it to that user, or choose another path; if no agent of its owner runs, remove it", func(path string) error {
			return errors.Join(os.WriteFile(path+".lock", nil, 0o666), os.Chown(path+".lock", stranger, stranger))
		}},
		{"stale socket of another user", "belongs to user id 65534", func(path string) error {
			staleSocket(t, path)
			return os.Chown(path, stranger, stranger)
		}},
		{"directory of another user", "belongs to user id 65534", func(path string) error { return os.Chown(filepath.Dir(path), stranger, stranger) }},
		{"directory that all may write to", "mode 0777) is writable by others", func(path string) error { return os.Chmod(filepath.Dir(path), 0o777) }},
		{"directory like /tmp", "", func(path string) error { return os.Chmod(filepath.Dir(path), 0o777|fs.ModeSticky) }},
		{"no directory", "no such file or directory", func(path string) error { return os.Remove(filepath.Dir(path)) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			if strings.Contains(test.want, "65534") && os.Geteuid() != 0 {
				t.Skip("only root can make files of another user")
			}
			path := filepath.Join(socketDir(t), "s")
			if err := test.prepare(path); err != nil {
				t.Fatal(err)
			}
			before, beforeErr := os.Lstat(path)
			l, err := listenSocket(t.Context(), path, false, slog.New(slog.DiscardHandler))
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				conn, err := net.Dial("unix", path)
				if err != nil {
					t.Fatal(err)
				}
				conn.Close()
				if info, err := os.Stat(path); err != nil || info.Mode().Perm() != socketMode {
					t.Errorf("mode %v, %v", info.Mode(), err)
				}
				if err := errors.Join(l.Close(), l.Close()); err != nil {
					t.Error(err)
				}
				if left, _ := filepath.Glob(path + "*"); len(left) > 0 && !strings.HasSuffix(left[0], "-real") {
					t.Errorf("left are %v", left)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "http.socket "+path) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if after, err := os.Lstat(path); (err == nil) != (beforeErr == nil) || err == nil && !os.SameFile(before, after) {
				t.Errorf("what was there is gone: %v", err)
			}
		})
	}
}

// Whatever lies where the socket was stays when the agent ends.
func TestSocketRemovesItselfOnly(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	l := etcdtest.Must(listenSocket(t.Context(), path, false, slog.New(slog.DiscardHandler)))
	if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte("precious"), 0o600), l.Close()); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("the file has %q, %v", b, err)
	}
}

// A socket has never a mode by which others may connect, even with an umask of 0.
func TestSocketIsBornPrivate(t *testing.T) {
	dir := socketDir(t)
	umask := unix.Umask(0)
	defer unix.Umask(umask)
	l, err := newSocketListener(t.Context(), filepath.Join(dir, "s"), false, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if born := l.made.Mode().Perm(); born != 0o600 {
		t.Errorf("the socket was made with mode %v", born)
	}
}

// A lock file that was removed before it was locked keeps nobody out, so another is taken.
func TestSocketLockIsTheOneInPlace(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	l := etcdtest.Must(newSocketListener(t.Context(), path, false, slog.New(slog.DiscardHandler)))
	dir, name, err := safefile.Parent(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	late := &socketListener{dir: dir, name: name}
	late.opened = func() { // between its open(2) and flock(2) the other agent ends, and a third begins
		late.opened = nil
		if err := errors.Join(l.Close(), os.WriteFile(path+".lock", nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := late.takeLock(); err != nil {
		t.Fatal(err)
	}
	defer late.lock.Close()
	mine, there := etcdtest.Must(late.lock.Stat()), etcdtest.Must(os.Lstat(path+".lock"))
	if !os.SameFile(mine, there) {
		t.Error("the lock is that of a file that nobody finds any more")
	}
}

// allow_shared_dirs accepts a directory that others may write to, and says so once.
func TestSharedSocketDirectory(t *testing.T) {
	for _, mode := range []fs.FileMode{0o777, 0o770 | fs.ModeSetgid} {
		t.Run(mode.String(), func(t *testing.T) {
			dir := socketDir(t)
			if err := os.Chmod(dir, mode); err != nil {
				t.Fatal(err)
			}
			log := &bytes.Buffer{}
			path := filepath.Join(dir, "s")
			l, err := listenSocket(t.Context(), path, true, slog.New(slog.NewTextHandler(log, nil)))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if strings.Count(log.String(), dir+" (user id") != 1 {
				t.Errorf("the log has %s, want the directory in it once", log)
			}
			if _, err := listenSocket(t.Context(), filepath.Join(dir, "t"), false, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "allow_shared_dirs: true") {
				t.Errorf("without the setting: %v", err)
			}
		})
	}
}
