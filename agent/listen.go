package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"disc/agent/dns"
	"disc/agent/httpapi"
	"disc/config"
)

// openListeners opens all listeners. Its error names each that cannot be opened.
func (a *Agent) openListeners(ctx context.Context) error {
	c, errs := a.config, make([]error, 3)
	a.listeners, errs[0] = listen(ctx, c.HTTP, c.AllowSharedDirs, a.log)
	if c.DNS.Listen != "" {
		server, err := dns.Listen(c.DNS.Listen, a.dns, a.log)
		if err != nil {
			errs[1] = explainListen("dns.listen", c.DNS.Listen, err)
		} else {
			a.dnsServer = server
			a.dnsServer.Connections = connectionLimit(dns.MaxConnections, 8)
			protectDNS(a.dnsServer, c.DNS, a.log)
		}
	}
	if c.GRPC.Listen != "" {
		listener, err := net.Listen("tcp", c.GRPC.Listen)
		if err != nil {
			errs[2] = explainListen("grpc.listen", c.GRPC.Listen, err)
		} else {
			a.grpc = listener
		}
	}
	return errors.Join(errs...)
}

// CheckListen returns an error that names each address of the settings on which an agent cannot
// listen over TCP or UDP.
func CheckListen(c *config.Config) error {
	var errs []error
	check := func(setting, address string, listen func() (io.Closer, error)) {
		if address == "" {
			return
		}
		l, err := listen()
		if err != nil {
			errs = append(errs, explainListen(setting, address, err))
			return
		}
		l.Close()
	}
	check("http.listen", c.HTTP.Listen, func() (io.Closer, error) { return net.Listen("tcp", c.HTTP.Listen) })
	check("dns.listen", c.DNS.Listen, func() (io.Closer, error) {
		return dns.Listen(c.DNS.Listen, nil, slog.New(slog.DiscardHandler))
	})
	check("grpc.listen", c.GRPC.Listen, func() (io.Closer, error) { return net.Listen("tcp", c.GRPC.Listen) })
	return errors.Join(errs...)
}

// listen opens the listeners of the HTTP API: a TCP address, a Unix socket, or both, in this
// order. With sharedDirs the directory of the socket may be one that others can change.
func listen(ctx context.Context, c config.HTTP, sharedDirs bool, log *slog.Logger) (listeners []net.Listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range listeners {
				l.Close()
			}
		}
	}()
	if c.Listen != "" {
		l, err := net.Listen("tcp", c.Listen)
		if err != nil {
			return nil, explainListen("http.listen", c.Listen, err)
		}
		l = httpapi.LimitListener(l, connectionLimit(httpapi.MaxConnections, 4)) // below TLS: net/http must see a *tls.Conn
		if c.TLS.Cert != "" {
			security, err := serverTLS(ctx, c, log)
			if err != nil {
				l.Close()
				return nil, err
			}
			l = tls.NewListener(l, security)
		}
		listeners = append(listeners, l)
	}
	if c.Socket != "" {
		l, err := listenSocket(ctx, c.Socket, sharedDirs, log)
		if err != nil {
			return listeners, err
		}
		listeners = append(listeners, httpapi.LimitListener(l, connectionLimit(httpapi.MaxConnections, 4)))
	}
	if len(listeners) == 0 {
		return nil, errors.New("nothing to listen on: set http.listen or http.socket")
	}
	return listeners, nil
}

// serverTLS returns the TLS configuration of the HTTP API. It asks for client certificates where
// http.tls.client_ca is set: a client may send none, and a certificate that the CAs do not
// verify ends the handshake.
func serverTLS(ctx context.Context, c config.HTTP, log *slog.Logger) (*tls.Config, error) {
	pair := newKeyPair(c.TLS, log)
	if _, err := pair.load(ctx); err != nil {
		return nil, err
	}
	certificate := func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.load(hello.Context()) }
	protocols := alpn(runtime.Version())
	if !slices.Contains(protocols, "h2") {
		log.Warn("HTTP/2 is not offered over http.tls: the HTTP/2 server of the Go version that disc was built with can be made to crash; build disc with Go 1.26.9 or newer (of 1.27: 1.27.2)", "go", runtime.Version())
	}
	server := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificate, NextProtos: protocols}
	if c.ClientCA == "" {
		return server, nil
	}
	clients := newClientCAs(c, log)
	if _, err := clients.load(ctx); err != nil {
		return nil, err
	}
	server.ClientAuth = tls.VerifyClientCertIfGiven
	base := server.Clone()
	server.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		pool, err := clients.load(hello.Context())
		if err != nil {
			return nil, err
		}
		own := base.Clone()
		own.ClientCAs = *pool
		return own, nil
	}
	return server, nil
}

// connectionLimit returns how many connections a listener may have at once: one in divisor of
// the files that this process may open (RLIMIT_NOFILE), at most limit. TCP and the Unix socket
// get a quarter each, DNS and gRPC an eighth, which leaves a quarter for etcd, the checks and
// the data directory.
func connectionLimit(limit int, divisor uint64) int {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return limit
	}
	return int(min(uint64(limit), max(files.Cur/divisor, 1)))
}

// listenFlags tell which flag has the address of a setting.
var listenFlags = map[string]string{
	"http.listen": " with --http", "dns.listen": " with --dns", "grpc.listen": " with --grpc",
}

// explainListen names the setting of a listener that could not be opened.
func explainListen(setting, address string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s %s is in use: stop the process that listens there, or choose another address%s", setting, address, listenFlags[setting])
	}
	return fmt.Errorf("%s: %w", setting, err)
}
