package check

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"

	"disc/discovery"
)

// ValidateTarget checks that the HTTP API may add a check to an instance at address, an IP
// address or a host name. The error is a [discovery.ErrForbidden] for an exec check, and for
// one that probes anything but the instance's address as written, localhost or a loopback
// address. It is a [discovery.ErrInvalid] for a target that cannot be parsed.
func ValidateTarget(spec discovery.CheckSpec, address string) error {
	switch spec.Type {
	case discovery.CheckExec:
		return discovery.Errorf(discovery.ErrForbidden, "check %s: exec checks may come only from the agent's config file; put it there, or use http, tcp, grpc or ttl", checkName(spec))
	case discovery.CheckTTL:
		return nil
	}
	if spec.Type != discovery.CheckHTTP && spec.Address == "" {
		return nil
	}
	host, err := splitHost(spec)
	if err != nil {
		return err
	}
	if isOwn(host, address) || isLocal(host) {
		return nil
	}
	return discovery.Errorf(discovery.ErrForbidden, "check %s: %q is neither the instance's own address, %s, nor loopback; a check from the API may probe only these", checkName(spec), host, address)
}

// checkName returns the name of a check in errors: its id, or its type.
func checkName(spec discovery.CheckSpec) string {
	if spec.ID == "" {
		return string(spec.Type)
	}
	return spec.ID
}

// splitHost returns the host that a check with a URL or an address probes.
func splitHost(spec discovery.CheckSpec) (string, error) {
	if spec.Type == discovery.CheckHTTP {
		u, err := url.Parse(spec.URL)
		if err != nil || u.Hostname() == "" {
			return "", discovery.Errorf(discovery.ErrInvalid, "check %s: the url is not an http or https URL with a host", checkName(spec))
		}
		return u.Hostname(), nil
	}
	host, port, err := net.SplitHostPort(spec.Address)
	number, portErr := strconv.Atoi(port)
	if err != nil || portErr != nil || host == "" || number < 1 || number > 65535 {
		return "", discovery.Errorf(discovery.ErrInvalid, "check %s: address %q is not host:port with a port of 1 to 65535", checkName(spec), spec.Address)
	}
	return host, nil
}

func isOwn(host, address string) bool {
	a, errA := netip.ParseAddr(host)
	b, errB := netip.ParseAddr(address)
	if errA == nil && errB == nil {
		return a.Unmap() == b.Unmap()
	}
	return strings.EqualFold(host, address)
}

func isLocal(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}

// restrictedDialer returns a dialer that connects only to loopback and to the instance's own
// address. It checks the resolved address just before it connects, so that a name cannot
// change to another host between check and use.
func restrictedDialer(address string) *net.Dialer {
	own, err := netip.ParseAddr(address)
	named := err != nil
	control := func(_, target string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(target)
		if err != nil {
			return discovery.Errorf(discovery.ErrForbidden, "refused: %s is not an IP address and port", target)
		}
		ip := at.Addr().Unmap()
		// The own addresses of an instance at a host name are those that the name resolves
		// to, except link-local ones: clouds serve credentials there.
		isSelf := ip == own.Unmap() || named && !ip.IsLinkLocalUnicast() && !ip.IsMulticast()
		if ip.IsLoopback() || isSelf {
			return nil
		}
		return discovery.Errorf(discovery.ErrForbidden, "refused: %s is neither the instance's own address, %s, nor loopback", ip, address)
	}
	return &net.Dialer{Control: control}
}
