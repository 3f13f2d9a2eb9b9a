package dns

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Networks are the networks whose clients are answered, and loopback. It is safe for use by
// many goroutines.
type Networks struct {
	listed []netip.Prefix
	own    func() []netip.Prefix // nil: not those of the host

	refreshing sync.Mutex
	refreshed  time.Time
	ofHost     atomic.Pointer[[]netip.Prefix]
}

// ownInterval is the least time between two readings of the host's own networks.
const ownInterval = 10 * time.Second

// privateNetworks are not routed in the Internet: RFC 1918, RFC 6598 (shared by the customers of
// a carrier, and by clouds for containers), RFC 3927, RFC 4193 and RFC 4291.
var privateNetworks = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"),
}

// ListedNetworks returns the networks of a list.
func ListedNetworks(list []netip.Prefix) *Networks { return &Networks{listed: list} }

// NearNetworks returns the private networks, and those that the host itself has addresses in,
// as they are at any time.
func NearNetworks() *Networks { return &Networks{listed: privateNetworks, own: hostNetworks} }

// Contains reports whether a client is answered.
func (n *Networks) Contains(client netip.Addr) bool {
	client = client.Unmap().WithZone("")
	if client.IsLoopback() || contain(n.listed, client) {
		return true
	}
	if n.own == nil {
		return false
	}
	if of := n.ofHost.Load(); of != nil && contain(*of, client) {
		return true
	}
	return n.refresh() && contain(*n.ofHost.Load(), client)
}

// refresh reads the host's networks, unless they were read lately or are being read. It reports
// whether it has.
func (n *Networks) refresh() bool {
	if !n.refreshing.TryLock() {
		return false
	}
	defer n.refreshing.Unlock()
	if !n.refreshed.IsZero() && time.Since(n.refreshed) < ownInterval {
		return false
	}
	of := n.own()
	n.refreshed = time.Now()
	n.ofHost.Store(&of)
	return true
}

func contain(networks []netip.Prefix, client netip.Addr) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(client) })
}

// hostNetworks returns the networks that this host has addresses in; none if they cannot be read.
func hostNetworks() []netip.Prefix {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var all []netip.Prefix
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			all = append(all, p.Masked())
		}
	}
	return all
}
