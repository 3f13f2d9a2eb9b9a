package agent

import (
	"context"
	"net"
	"syscall"
)

// listenPrivately listens on a Unix socket that only its user may connect to. macOS gives the file
// of a socket the mode that the umask leaves. What else this process makes meanwhile is private too.
func listenPrivately(ctx context.Context, path string) (net.Listener, error) {
	defer syscall.Umask(syscall.Umask(0o077))
	return (&net.ListenConfig{}).Listen(ctx, "unix", path)
}
