package etcd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc/credentials"

	"disc/discovery/connect"
)

// What an attempt to connect waits for.
const (
	waitsForHost  = "no answer to the attempt to connect"
	waitsForTLS   = "it accepts the connection, and does not answer the TLS handshake"
	waitsForFirst = "it accepts the connection, and says nothing"
)

// dial connects as gRPC does by itself, with the system's intervals of TCP's keepalive, and
// records a failure.
func (c *connections) dial(ctx context.Context, address string) (net.Conn, error) {
	network, target := "tcp", address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, target = "unix", strings.TrimPrefix(path, "//")
	}
	address = addressOf(address)
	c.waits(address, waitsForHost)
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}}
	conn, err := dialer.DialContext(ctx, network, target)
	if err != nil {
		c.ended(ctx.Err, address, waitsForHost, connect.FailureOf(err))
		return nil, err
	}
	return conn, nil
}

// ended records that an attempt to connect ended with a failure. If the attempt's context has
// ended, as attemptErr tells, that is the reason: this side gave the attempt up, which is no failure, or there was
// no answer in time to what it waited for.
func (c *connections) ended(attemptErr func() error, address, waiting string, f connect.Failure) {
	switch err := attemptErr(); {
	case errors.Is(err, context.Canceled):
		c.waits(address, "")
	case err != nil:
		c.failed(address, connect.Failure{Kind: connect.NoAnswer, Reason: waiting})
	default:
		c.failed(address, f)
	}
}

// proxyOf returns the host of the proxy through which gRPC connects to an endpoint; "": none.
// The environment names it. A socket has none.
func proxyOf(endpoint string) string {
	if strings.HasPrefix(endpoint, "unix:") || strings.HasPrefix(endpoint, "unixs:") {
		return ""
	}
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "https", Host: addressOf(endpoint)}})
	switch {
	case err != nil:
		return "in HTTPS_PROXY, which is not a valid URL"
	case proxy != nil:
		return proxy.Host
	}
	return ""
}

// recordingCredentials record the failures of handshakes, and what a server first says.
type recordingCredentials struct {
	credentials.TransportCredentials
	connections *connections
}

// ClientHandshake implements credentials.TransportCredentials. authority is the address of
// the endpoint.
func (r recordingCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secure := r.Info().SecurityProtocol == "tls"
	if secure {
		r.connections.waits(authority, waitsForTLS)
	}
	shaken, info, err := r.TransportCredentials.ClientHandshake(ctx, authority, conn)
	if err != nil {
		r.connections.ended(ctx.Err, authority, waitsForTLS, failedHandshake(err))
		return nil, nil, err
	}
	r.connections.waits(authority, waitsForFirst)
	return &recordedConn{Conn: shaken, attemptErr: ctx.Err, connections: r.connections, address: authority, secure: secure}, info, nil
}

func failedHandshake(err error) connect.Failure {
	if connect.Ended(err) {
		return connect.Failure{Kind: connect.PlainServer, Reason: fmt.Sprintf("the server ended the TLS handshake (%v), as one without TLS does", err)}
	}
	return connect.FailureOf(err)
}

// Clone implements credentials.TransportCredentials.
func (r recordingCredentials) Clone() credentials.TransportCredentials {
	return recordingCredentials{r.TransportCredentials.Clone(), r.connections}
}

// recordedConn is a connection that records whether the server first sends what a server of
// HTTP/2 does.
type recordedConn struct {
	net.Conn
	attemptErr  func() error // of the context to connect; gRPC closes the connection below this one when that ends
	connections *connections
	address     string
	secure      bool
	recorded    atomic.Bool
}

// Read implements net.Conn.
func (c *recordedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if !c.recorded.Load() && (n > 0 || err != nil) && c.recorded.CompareAndSwap(false, true) {
		c.record(b[:n], err)
	}
	return n, err
}

// Write implements net.Conn. A server that refuses the connection may end it before it has read
// what gRPC first writes. Its reason is then still to be read, so Read has the error.
func (c *recordedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err != nil && !c.recorded.Load() {
		return len(b), nil
	}
	return n, err
}

// Close implements net.Conn. A connection that this side closes has not failed.
func (c *recordedConn) Close() error {
	c.recorded.Store(true)
	return c.Conn.Close()
}

// settingsFrame is the type of the frame that a server of HTTP/2 sends first (RFC 9113,
// section 3.4).
const settingsFrame = 4

// record records the first that a server sends, or the error in place of that.
func (c *recordedConn) record(first []byte, err error) {
	switch {
	case len(first) > 3 && first[3] == settingsFrame:
		c.connections.ready(c.address)
	case len(first) > 0:
		c.connections.failed(c.address, notHTTP2(first))
	default:
		c.connections.ended(c.attemptErr, c.address, waitsForFirst, c.failureOf(err))
	}
}

// notHTTP2 returns the failure of a server that first sends what none of HTTP/2 does.
func notHTTP2(first []byte) connect.Failure {
	if len(first) > 3 && string(first[:4]) == "HTTP" {
		return connect.Failure{Kind: connect.OtherProtocol, Reason: "the server speaks HTTP/1, not the HTTP/2 of etcd"}
	}
	return connect.Failure{Kind: connect.OtherProtocol, Reason: "the server does not speak HTTP/2, as etcd does"}
}

// failureOf returns the failure of a connection that broke before the server sent anything.
func (c *recordedConn) failureOf(err error) connect.Failure {
	switch {
	case connect.Ended(err) && !c.secure:
		return connect.Failure{Kind: connect.TLSServer, Reason: fmt.Sprintf("the server ended the connection without an answer (%v), as one with TLS does", err)}
	case connect.Ended(err):
		return connect.Failure{Kind: connect.ClientCertificate, Reason: fmt.Sprintf("the server ended the connection after the TLS handshake (%v), as one does that refuses the client's certificate", err)}
	}
	return connect.FailureOf(err)
}
