package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// advertiseAddress returns the address that instances get by default, and keeps it: while the
// name of etcd cannot be resolved or this host has no network yet, an agent that was
// restarted goes on with the one that it had.
func (a *Agent) advertiseAddress(ctx context.Context) (string, error) {
	c := a.config
	found, err := advertised(ctx, c.Advertise, c.Etcd.Endpoints)
	switch {
	case err == nil && c.Advertise == "":
		a.dir.saveAddress(found)
	case errors.Is(err, errNoRoute):
		kept := a.dir.address()
		if kept == "" || reachable(kept, c.Etcd.Endpoints) != nil {
			return "", err
		}
		a.log.Warn("there is no way to etcd; advertising the address of the last start", "address", kept, "error", err)
		return kept, nil
	}
	return found, err
}

// errNoRoute: it cannot be told which of this host's addresses leads to etcd.
var errNoRoute = errors.New("find the address to advertise")

// advertised returns the configured address, or the source address of this host's
// route to etcd.
func advertised(ctx context.Context, configured string, endpoints []string) (string, error) {
	address := configured
	if address == "" {
		var err error
		if address, err = sourceAddress(ctx, endpoints); err != nil {
			return "", fmt.Errorf("%w: %w; set --advertise", errNoRoute, err)
		}
	}
	if err := reachable(address, endpoints); err != nil {
		return "", err
	}
	return address, nil
}

// reachable refuses an address that other hosts cannot reach, unless etcd itself is on
// this host.
func reachable(address string, endpoints []string) error {
	if isLoopback(address) && !allLoopback(endpoints) {
		return fmt.Errorf("advertised address %s cannot be reached from other hosts, while etcd at %s is on another; set --advertise to an address of this host",
			address, strings.Join(endpoints, ","))
	}
	return nil
}

// sourceAddress returns the source address towards the first endpoint that has one. It sends
// nothing: connecting a UDP socket only asks the routing table.
func sourceAddress(ctx context.Context, endpoints []string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var last error
	for _, endpoint := range endpoints {
		host, port, local := splitEndpoint(endpoint)
		if local {
			return "127.0.0.1", nil
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, "udp", net.JoinHostPort(host, port))
		if err != nil {
			last = err
			continue
		}
		defer conn.Close()
		return netip.MustParseAddrPort(conn.LocalAddr().String()).Addr().WithZone("").String(), nil
	}
	return "", last
}

// splitEndpoint takes an endpoint apart. local is true for a Unix socket.
func splitEndpoint(endpoint string) (host, port string, local bool) {
	if u, err := url.Parse(endpoint); err == nil && u.Host != "" {
		endpoint = u.Host
	}
	if strings.HasPrefix(endpoint, "unix") {
		return "", "", true
	}
	host, port, err := net.SplitHostPort(endpoint)
	if err != nil {
		return endpoint, "2379", false
	}
	return host, port, false
}

func isLoopback(address string) bool {
	ip, err := netip.ParseAddr(address)
	return err == nil && ip.Unmap().IsLoopback() || strings.EqualFold(address, "localhost")
}

// allLoopback reports whether etcd is on this host only.
func allLoopback(endpoints []string) bool {
	for _, endpoint := range endpoints {
		host, _, local := splitEndpoint(endpoint)
		if local || isLoopback(host) {
			continue
		}
		return false
	}
	return true
}
