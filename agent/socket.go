package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"disc/config/safefile"
)

// socketMode lets a socket's user and group connect to it.
const socketMode = 0o660

// socketListener listens on a Unix socket. It holds a lock beside the socket for as long as
// it listens, and removes the socket at the end, but nothing else that lies there by then.
type socketListener struct {
	*net.UnixListener
	dir   *safefile.Dir
	name  string      // of the socket in dir
	made  fs.FileInfo // the socket
	lock  *os.File
	close func() error

	opened func() // for tests: a lock file is open and not locked yet
}

// listenSocket listens on a Unix socket that its user and group may connect to (mode 0660). It
// replaces a socket that nobody listens on any more, and nothing else: no other kind of file and
// no socket of another user. Others must not be able to replace the socket, unless shared says to
// accept that. The file PATH.lock keeps two agents from replacing each other's.
func listenSocket(ctx context.Context, path string, shared bool, log *slog.Logger) (net.Listener, error) {
	l, err := newSocketListener(ctx, path, shared, log)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, explainListen("http.socket", path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("http.socket %s: %w", path, err)
	}
	return l, nil
}

func newSocketListener(ctx context.Context, path string, shared bool, log *slog.Logger) (_ *socketListener, err error) {
	l := &socketListener{}
	l.close = sync.OnceValue(l.release)
	defer func() {
		if err != nil {
			_ = l.close() // err says more
		}
	}()
	if l.dir, l.name, err = safefile.Parent(path); err != nil {
		return nil, err
	}
	if shared {
		l.dir.Tolerate(warnShared(log))
	}
	if err := l.dir.Stable(); err != nil {
		return nil, AdviseShared(err)
	}
	if err := l.takeLock(); err != nil {
		return nil, err
	}
	if err := l.removeStale(path); err != nil {
		return nil, err
	}
	opened, err := listenPrivately(ctx, path) // so that nobody can connect before the mode is set
	if err != nil {
		return nil, err
	}
	l.UnixListener = opened.(*net.UnixListener)
	l.SetUnlinkOnClose(false) // it would remove whatever lies there then
	made, err := l.dir.Lstat(l.name)
	if err != nil {
		return nil, err
	}
	if made.Mode().Type() != fs.ModeSocket { // where others may write to the directory
		return nil, fmt.Errorf("another file took the place of the socket (%v)", made.Mode())
	}
	l.made = made
	if err := l.dir.Chmod(l.name, l.made, socketMode); err != nil {
		return nil, err
	}
	return l, nil
}

// takeLock locks the file beside the socket. It is EADDRINUSE if another agent has the lock.
func (l *socketListener) takeLock() error {
	for {
		lock, err := l.openLock()
		if err != nil {
			return err
		}
		if l.opened != nil {
			l.opened()
		}
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = syscall.EADDRINUSE
		}
		if err == nil && l.inPlace(lock) {
			l.lock = lock
			return nil
		}
		lock.Close()
		if err != nil {
			return err
		}
	}
}

func (l *socketListener) lockName() string { return l.name + ".lock" }

func (l *socketListener) openLock() (*os.File, error) {
	lock, err := l.dir.Open(l.lockName(), os.O_CREATE|os.O_RDWR, 0o600)
	if errors.Is(err, safefile.ErrShared) || errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w; if no agent of its owner runs, remove it", err)
	}
	return lock, err
}

// inPlace reports whether a lock file is the one that others find. The agent that had the lock
// removes the file, which may be after this one has opened it.
func (l *socketListener) inPlace(lock *os.File) bool {
	mine, err := lock.Stat()
	there, err2 := l.dir.Lstat(l.lockName())
	return err == nil && err2 == nil && safefile.SameFile(mine, there)
}

// removeStale removes a socket that nobody listens on. It is EADDRINUSE if somebody does.
func (l *socketListener) removeStale(path string) error {
	info, err := l.dir.Lstat(l.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("there is something else than a socket (%v); it stays: move it away, or choose another path", info.Mode())
	}
	if err := safefile.CheckOwner(path, info); err != nil {
		return err
	}
	conn, err := (&net.Dialer{}).Dial("unix", path)
	switch {
	case err == nil:
		conn.Close()
		return syscall.EADDRINUSE
	case errors.Is(err, syscall.EAGAIN): // its queue is full
		return syscall.EADDRINUSE
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("another program's socket may be there; remove it, or choose another path: %w", err)
	}
	return l.dir.Remove(l.name)
}

// Close stops listening and removes the socket.
func (l *socketListener) Close() error { return l.close() }

func (l *socketListener) release() error {
	var errs []error
	if l.UnixListener != nil {
		errs = append(errs, l.UnixListener.Close())
	}
	if l.made != nil {
		if now, err := l.dir.Lstat(l.name); err == nil && safefile.SameFile(l.made, now) {
			errs = append(errs, l.dir.Remove(l.name))
		}
	}
	if l.lock != nil {
		if l.inPlace(l.lock) {
			errs = append(errs, l.dir.Remove(l.lockName()))
		}
		errs = append(errs, l.lock.Close())
	}
	if l.dir != nil {
		errs = append(errs, l.dir.Close())
	}
	return errors.Join(errs...)
}
