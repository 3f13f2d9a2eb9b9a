package etcd

import (
	"context"
	"crypto/tls"
	"net"

	"google.golang.org/grpc/credentials"
)

// reloadingTLS are transport credentials that are loaded anew for each handshake, so that
// certificates which were replaced on disk, those of the authority too, are taken up
// by the next connection. A pair of files that is half replaced fails a handshake,
// and another follows.
type reloadingTLS struct {
	credentials.TransportCredentials // of the start, for what is asked without a handshake
	load                             func() (*tls.Config, error)
}

// ClientHandshake implements credentials.TransportCredentials.
func (r reloadingTLS) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, err := r.load()
	if err != nil {
		return nil, nil, err
	}
	return credentials.NewTLS(c).ClientHandshake(ctx, authority, conn)
}

// Clone implements credentials.TransportCredentials.
func (r reloadingTLS) Clone() credentials.TransportCredentials {
	return reloadingTLS{r.TransportCredentials.Clone(), r.load}
}
