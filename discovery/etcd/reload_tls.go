package etcd

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"

	"google.golang.org/grpc/credentials"
)

// reloadingTLS are transport credentials that are loaded for each handshake, so that a new
// connection uses the certificates, those of the authority too, that are then on disk. A
// handshake fails while a certificate and its key do not match, and another follows.
type reloadingTLS struct {
	credentials.TransportCredentials // of the start, for the methods other than ClientHandshake
	load                             func(context.Context) (*tls.Config, error)
}

// ClientHandshake implements credentials.TransportCredentials. gRPC compares the certificate
// with the name that it is given, and ignores that of the configuration.
func (r reloadingTLS) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, err := r.load(ctx)
	if err != nil {
		return nil, nil, err
	}
	return credentials.NewTLS(c).ClientHandshake(ctx, cmp.Or(c.ServerName, authority), conn)
}

// Clone implements credentials.TransportCredentials.
func (r reloadingTLS) Clone() credentials.TransportCredentials {
	return reloadingTLS{r.TransportCredentials.Clone(), r.load}
}
