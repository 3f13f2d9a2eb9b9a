package agent

import (
	"context"
	"errors"
	"net"
	"syscall"
)

// probe tells whether something listens at an address, for an instance whose record
// vanished with many others. What is wrong on this host is no sign of that.
func probe(ctx context.Context, address string) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	for _, own := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL, syscall.EACCES, syscall.EPERM, syscall.ENETDOWN} {
		if errors.Is(err, own) {
			return nil
		}
	}
	if err != nil {
		return err
	}
	return conn.Close()
}
