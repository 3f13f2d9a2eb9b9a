package agent

import (
	"context"
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// listenPrivately listens on a Unix socket that only its user may connect to. The mode of a
// socket's own inode, less the umask, becomes that of the file (bind(2)).
func listenPrivately(ctx context.Context, path string) (net.Listener, error) {
	private := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var chmod error
		return errors.Join(c.Control(func(fd uintptr) { chmod = unix.Fchmod(int(fd), 0o600) }), chmod)
	}}
	return private.Listen(ctx, "unix", path)
}
