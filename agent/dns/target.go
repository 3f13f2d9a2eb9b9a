package dns

import (
	"encoding/hex"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"disc/discovery"
	"disc/discovery/view"
)

// parseIP parses an IP address. It returns false for a host name.
func parseIP(address string) (netip.Addr, bool) {
	ip, err := netip.ParseAddr(address)
	return ip.Unmap(), err == nil
}

// hostName returns a host name in the form of records; empty: it is not a name in DNS.
func hostName(address string) string {
	if name := dns.Fqdn(address); isName(name) {
		return name
	}
	return ""
}

// isName reports whether a fully qualified name has the lengths of RFC 1035. Only dots may
// be escaped in it. The test of the library allows a few bytes more.
func isName(name string) bool {
	_, ok := dns.IsDomainName(name)
	return ok && len(name)-strings.Count(name, `\`)+1 <= maxNameWire
}

// target returns the target of the SRV record of an instance, and the address of that
// name in the domain. The target is <id>.<service>.inst. It is the name of the address
// where not every resolver accepts the id or the service as a label of a host name, or
// where another id differs from it in case alone. An address that is a host name is the
// target itself; the domain has no address for it.
func (z *zone) target(service *view.Service, id, address string) (string, netip.Addr) {
	ip, ok := parseIP(address)
	if !ok {
		return hostName(address), netip.Addr{}
	}
	name := id + "." + discovery.FoldName(service.Name) + ".inst." + z.domain
	if !isHostLabel(id) || !isHostLabel(service.Name) || !isName(name) || z.hasCaseDuplicate(service, id) {
		name = z.addressName(ip)
	}
	return name, ip
}

// isHostLabel reports whether s is a label of a host name (RFC 1123): letters and digits,
// with "-" between them.
func isHostLabel(s string) bool {
	if s == "" || len(s) > maxLabel || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// hasCaseDuplicate reports whether an id differs from another one of the service in case
// alone. Such ids are one name to DNS.
func (z *zone) hasCaseDuplicate(service *view.Service, id string) bool {
	twins := service.Memo(z.caseDuplicates, func() any { return findCaseDuplicates(service) }).(map[string]bool)
	return len(twins) > 0 && twins[strings.ToLower(id)]
}

func findCaseDuplicates(service *view.Service) map[string]bool {
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

// addressName returns the name of an address in the domain: its hexadecimal digits. Every
// address has one.
func (z *zone) addressName(ip netip.Addr) string {
	return hex.EncodeToString(ip.AsSlice()) + ".addr." + z.domain
}

// addressLabel parses the labels of the name of an address.
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
