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

	"disc/discovery"
	"disc/discovery/connect"
)

// advertiseAddress returns the address that instances get by default, and saves it. While
// etcd's name cannot be resolved or this host has no network yet, a restarted agent uses the
// saved one.
func (a *Agent) advertiseAddress(ctx context.Context) (string, error) {
	c := a.config
	address, err := advertised(ctx, c.Advertise, c.Etcd.Endpoints)
	switch {
	case err == nil && c.Advertise == "":
		a.dir.saveAddress(address)
	case errors.Is(err, errNoRoute):
		saved := a.dir.address()
		if saved == "" || reachable(saved, c.Etcd.Endpoints) != nil {
			return "", err
		}
		a.log.Warn("no route to etcd; advertising the address of the last start", "address", saved, "error", err)
		return saved, nil
	}
	return address, err
}

// errNoRoute means that this host's address on the route to etcd cannot be determined.
var errNoRoute = errors.New("find the address to advertise")

// advertised returns the configured address, or else the source address of this host's route
// to etcd.
func advertised(ctx context.Context, configured string, endpoints []string) (string, error) {
	address := configured
	if address == "" {
		var err error
		if address, err = sourceAddress(ctx, endpoints); err != nil {
			return "", fmt.Errorf("%w: %w; or set --advertise", errNoRoute, err)
		}
	}
	if err := reachable(address, endpoints); err != nil {
		return "", err
	}
	return address, nil
}

// reachable returns an error for a loopback address, which other hosts cannot reach, unless
// etcd itself is on this host.
func reachable(address string, endpoints []string) error {
	if discovery.IsLoopback(address) && !allLoopback(endpoints) {
		return fmt.Errorf("other hosts cannot reach the advertised address %s, and etcd at %s is on another host; set --advertise to an address of this host",
			address, strings.Join(endpoints, ","))
	}
	return nil
}

// sourceAddress returns the source address of the route to the first endpoint that has one. It
// sends nothing: to connect a UDP socket only consults the routing table.
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
			last = fmt.Errorf("no route to etcd at %s: %s; check --endpoints", endpoint, connect.FailureOf(err).Reason)
			continue
		}
		defer conn.Close()
		return netip.MustParseAddrPort(conn.LocalAddr().String()).Addr().WithZone("").String(), nil
	}
	return "", last
}

// splitEndpoint splits an endpoint into host and port, by default 2379. local is true for a
// Unix socket, which has neither.
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

// allLoopback reports whether every endpoint is on this host.
func allLoopback(endpoints []string) bool {
	for _, endpoint := range endpoints {
		host, _, local := splitEndpoint(endpoint)
		if local || discovery.IsLoopback(host) {
			continue
		}
		return false
	}
	return true
}
