package dns

import (
	"encoding/hex"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"disc/discovery"
	"disc/discovery/view"
)

// parseIP reads an address; a host name is none.
func parseIP(address string) (netip.Addr, bool) {
	ip, err := netip.ParseAddr(address)
	return ip.Unmap(), err == nil
}

// hostName is a host name as records have it; "" where DNS cannot say it.
func hostName(address string) string {
	if name := dns.Fqdn(address); isName(name) {
		return name
	}
	return ""
}

// isName reports whether a fully qualified name, whose only escapes are those of dots,
// has the lengths of RFC 1035. The library's own test takes a few bytes more.
func isName(name string) bool {
	_, ok := dns.IsDomainName(name)
	return ok && len(name)-strings.Count(name, `\`)+1 <= maxNameWire
}

// target is the host of an instance as SRV names it, and the address that it has in
// the domain. The host is <id>.<service>.inst, or the name of the address where the id
// is no label that every resolver takes for a host's, or no other's but for case. An
// address that is a host name is the target itself, and has no address here.
func (z *zone) target(service *view.Service, id, address string) (string, netip.Addr) {
	ip, ok := parseIP(address)
	if !ok {
		return hostName(address), netip.Addr{}
	}
	name := id + "." + discovery.FoldName(service.Name) + ".inst." + z.domain
	if !isHostLabel(id) || !isHostLabel(service.Name) || !isName(name) || z.isTwin(service, id) {
		name = z.addressName(ip)
	}
	return name, ip
}

// isHostLabel reports whether s is a label of a host name, RFC 1123: letters, digits
// and "-" in between.
func isHostLabel(s string) bool {
	if s == "" || len(s) > maxLabel || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// isTwin reports whether an id differs from another of the service in case alone. Such
// ids are one name to DNS.
func (z *zone) isTwin(service *view.Service, id string) bool {
	twins := service.Memo(z.twins, func() any { return findTwins(service) }).(map[string]bool)
	return len(twins) > 0 && twins[strings.ToLower(id)]
}

func findTwins(service *view.Service) map[string]bool {
	seen := make(map[string]bool, len(service.Entries()))
	twins := map[string]bool{}
	for _, e := range service.Entries() {
		id := strings.ToLower(e.ID)
		if seen[id] {
			twins[id] = true
		}
		seen[id] = true
	}
	return twins
}

// addressName is the name under which an address is always found: its digits.
func (z *zone) addressName(ip netip.Addr) string {
	return hex.EncodeToString(ip.AsSlice()) + ".addr." + z.domain
}

// addressLabel reads the labels of an address's name.
func addressLabel(labels []string) (netip.Addr, bool) {
	if len(labels) != 2 || labels[1] != "addr" {
		return netip.Addr{}, false
	}
	b, err := hex.DecodeString(labels[0])
	if err != nil {
		return netip.Addr{}, false
	}
	ip, ok := netip.AddrFromSlice(b)
	return ip, ok
}
