package discovery

import (
	"net/netip"
	"strings"
)

// IsLoopback reports whether a host is "localhost" or a loopback address: only this host
// reaches it. It resolves no names.
func IsLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.IsLoopback()
}
