package check

import (
	"context"
	"net"
	"time"

	"disc/discovery"
)

// tcpProber connects: an accepted connection is passing, an error is critical.
type tcpProber struct {
	address string // host:port
	timeout time.Duration
	dialer  *net.Dialer
}

func (p *tcpProber) probe(ctx context.Context) result {
	conn, err := p.dialer.DialContext(ctx, "tcp", p.address)
	if err != nil {
		return failure(ctx, "connect to "+p.address, p.timeout, err)
	}
	conn.Close()
	return result{discovery.Passing, "connected to " + p.address}
}
