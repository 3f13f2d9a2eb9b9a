package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"disc/discovery"
)

// targets decides which addresses a check from the HTTP API may probe: loopback, the advertised
// address, the addresses of this host's interfaces, and the networks that the operator has
// allowed; of these none that [discovery.ForbiddenTarget] names. Whoever registers an instance
// chooses its address, so that one is not allowed as such.
type targets struct {
	advertised string // IP address or host name; "": none
	networks   []netip.Prefix

	interfaces func() ([]net.Addr, error)
	resolve    func(ctx context.Context, network, host string) ([]netip.Addr, error)

	mu   sync.Mutex
	own  []netip.Addr // of the interfaces
	read time.Time    // when own was read
}

// ownPeriod is the time for which the addresses of the interfaces are not read again.
const ownPeriod = 2 * time.Second

func newTargets(advertised string, networks []netip.Prefix) *targets {
	return &targets{advertised: advertised, networks: networks, interfaces: net.InterfaceAddrs, resolve: net.DefaultResolver.LookupNetIP}
}

// checkForbidden returns a [discovery.ErrForbidden] with the reason if no check from the HTTP API
// may ever probe an address.
func checkForbidden(ip netip.Addr) error {
	ip = ip.WithZone("").Unmap()
	if what := discovery.ForbiddenTarget(ip); what != "" {
		return discovery.Errorf(discovery.ErrForbidden, "%s is %s: a check from the API never probes it; put the check into the agent's config file", ip, what)
	}
	return nil
}

// check returns a [discovery.ErrForbidden] with the reason if a check from the HTTP API may not
// probe an address, and a [discovery.ErrUnavailable] while it is not known whether the address is
// this host's.
func (t *targets) check(ctx context.Context, ip netip.Addr) error {
	ip = ip.WithZone("").Unmap()
	if err := checkForbidden(ip); err != nil {
		return err
	}
	if ip.IsLoopback() || slices.ContainsFunc(t.networks, func(p netip.Prefix) bool { return p.Contains(ip) }) {
		return nil
	}
	own, err := t.interfaceAddresses()
	if slices.Contains(own, ip) {
		return nil
	}
	advertised, resolveErr := t.resolveAdvertised(ctx)
	if slices.Contains(advertised, ip) {
		return nil
	}
	const advice = "add its network to the agent's setting checks.networks, or put the check into the agent's config file"
	if err = errors.Join(err, resolveErr); err != nil {
		return discovery.Errorf(discovery.ErrUnavailable, "%s is neither loopback nor an address of this host, as far as these are known (%v); try again later, %s", ip, err, advice)
	}
	return discovery.Errorf(discovery.ErrForbidden, "%s is neither loopback nor an address of this host; %s", ip, advice)
}

// interfaceAddresses returns the addresses of this host's interfaces.
func (t *targets) interfaceAddresses() ([]netip.Addr, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.read.IsZero() && time.Since(t.read) < ownPeriod {
		return t.own, nil
	}
	all, err := t.interfaces()
	if err != nil {
		return nil, fmt.Errorf("read the addresses of the interfaces: %w", err)
	}
	var own []netip.Addr
	for _, a := range all {
		if network, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(network.IP); ok {
				own = append(own, ip.Unmap())
			}
		}
	}
	t.own, t.read = own, time.Now()
	return own, nil
}

// resolveAdvertised returns the advertised address, or what the advertised name resolves to.
func (t *targets) resolveAdvertised(ctx context.Context) ([]netip.Addr, error) {
	if t.advertised == "" {
		return nil, nil
	}
	if ip, err := netip.ParseAddr(t.advertised); err == nil {
		return []netip.Addr{ip.Unmap()}, nil
	}
	found, err := t.resolve(ctx, "ip", t.advertised)
	for n := range found {
		found[n] = found[n].Unmap()
	}
	if err != nil {
		err = fmt.Errorf("resolve the advertised name: %w", err)
	}
	return found, err
}

// dialer returns a dialer that connects only to what check allows. It asks just before each
// connection, with the resolved address, so that a name cannot change to another host between
// check and use, and a redirect leads nowhere else.
func (t *targets) dialer() *net.Dialer {
	return &net.Dialer{ControlContext: func(ctx context.Context, _, target string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(target)
		if err != nil {
			return discovery.Errorf(discovery.ErrForbidden, "refused: %s is not an IP address and port", target)
		}
		if err := t.check(ctx, at.Addr()); err != nil {
			return fmt.Errorf("refused: %w", err)
		}
		return nil
	}}
}

// noting returns a dialer that tells noted about each connection that d refuses.
func noting(d *net.Dialer, noted func(reason error)) *net.Dialer {
	judge := d.ControlContext
	return &net.Dialer{ControlContext: func(ctx context.Context, network, target string, c syscall.RawConn) error {
		err := judge(ctx, network, target, c)
		if err != nil {
			noted(err)
		}
		return err
	}}
}
