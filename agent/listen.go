package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"syscall"

	"golang.org/x/sys/unix"

	"disc/agent/dns"
	"disc/agent/httpapi"
	"disc/config"
)

// listen opens the listeners of the HTTP API: a TCP address, a Unix socket, or both, in this
// order.
func listen(ctx context.Context, c config.HTTP, log *slog.Logger) (listeners []net.Listener, err error) {
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
			pair := &keyPair{files: c.TLS, log: log}
			if _, err := pair.load(ctx); err != nil {
				l.Close()
				return nil, err
			}
			l = tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pair.certificate, NextProtos: []string{"h2", "http/1.1"}})
		}
		listeners = append(listeners, l)
	}
	if c.Socket != "" {
		l, err := listenSocket(ctx, c.Socket)
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

// explainListen names the setting of a listener that could not be opened.
func explainListen(setting, address string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s %s is in use: stop the process that listens there, or choose another address", setting, address)
	}
	return fmt.Errorf("%s: %w", setting, err)
}

// dnsRateLimit is dns.rate_limit beyond loopback unless it is set: 200 answers of 1,232 bytes are
// 2 Mbit a second. It is the default of NSD.
const dnsRateLimit = 200

// protectDNS keeps a DNS server from answering the whole Internet, whose forged queries would make it
// send far more than it gets to a victim (BCP 140). On loopback nothing is limited unless it is set.
func protectDNS(s *dns.Server, c config.DNS, log *slog.Logger) {
	beyond := !s.Addr().Addr().Unmap().IsLoopback()
	switch {
	case len(c.Networks) > 0:
		s.Networks = dns.ListedNetworks(c.Networks)
	case beyond:
		s.Networks = dns.NearNetworks()
		log.Warn("DNS listens beyond loopback, and dns.networks is not set: clients in private networks and in this host's own ones are answered; set it to the networks of your clients",
			"address", s.Addr().String())
	}
	s.RateLimit = c.RateLimit
	if c.RateLimit == config.AutoRateLimit {
		s.RateLimit = 0
		if beyond {
			s.RateLimit = dnsRateLimit
		}
	}
}
