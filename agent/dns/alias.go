package dns

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"disc/discovery"
	"disc/discovery/lookup"
	"disc/discovery/view"
)

// Bounds of the work for one answer, since anybody who registers instances chooses their addresses.
const (
	maxAliases = 16  // names in the domain that are known, or read, and whose instances are looked at
	maxHosts   = 256 // names that are tried
	maxFound   = 256 // addresses after which no further name is followed
)

// aliases finds the addresses of endpoints whose address is a host name in the domain, such as
// db.disc. Resolvers do not ask a server again for the target of a CNAME that it answered with.
// So an answer has the addresses themselves, each once.
type aliases struct {
	zone     *zone
	snapshot *view.Snapshot
	seen     map[string]bool   // names that were tried, which ends loops
	known    int               // how many of them are in the snapshot
	scopes   []discovery.Scope // what the lookups of names may need
	unknown  string            // the first host name without an address here, rather one outside of the domain
}

// addresses appends the addresses of endpoints to found: those that are IP addresses, then those of
// host names, in the order of the names, so that each attempt follows the same ones.
func (a *aliases) addresses(found []netip.Addr, endpoints []discovery.Endpoint) []netip.Addr {
	var hosts []string
	for _, e := range endpoints {
		if ip, ok := parseIP(e.Address); ok {
			found = append(found, ip)
		} else if host := hostName(e.Address); host != "" {
			hosts = append(hosts, host)
		}
	}
	slices.Sort(hosts)
	for _, host := range slices.Compact(hosts) {
		before := len(found)
		found = a.follow(found, host)
		if len(found) == before && (a.unknown == "" || a.zone.has(a.unknown) && !a.zone.has(host)) {
			a.unknown = host
		}
	}
	return found
}

// follow appends the addresses of a host name, as far as it is in the domain.
func (a *aliases) follow(found []netip.Addr, host string) []netip.Addr {
	host = strings.ToLower(host)
	if !a.zone.has(host) || a.seen[host] || len(a.seen) == maxHosts || a.known == maxAliases || len(found) >= maxFound {
		return found
	}
	if a.seen == nil {
		a.seen = map[string]bool{}
	}
	a.seen[host] = true
	labels := dns.SplitDomainName(strings.TrimSuffix(host, a.zone.domain))
	if ip, ok := addressLabel(labels); ok {
		return append(found, ip)
	}
	m, ok := parseName(labels)
	if !ok || m.name.Kind == discovery.NameBrowse {
		return found
	}
	if len(a.scopes) < maxAliases {
		a.scopes = append(a.scopes, discovery.ScopesOf(m.lookup, "", false)...)
	}
	target, err := lookup.Lookup(a.snapshot, a.zone.query(m))
	if err != nil {
		return found
	}
	a.known++
	return a.addresses(found, target.Endpoints)
}

// isAlias reports whether a record is a CNAME to a name in the domain.
func (z *zone) isAlias(rr dns.RR) bool {
	cname, ok := rr.(*dns.CNAME)
	return ok && z.has(cname.Target)
}

// has reports whether a fully qualified name is below the domain.
func (z *zone) has(name string) bool { return strings.HasSuffix(strings.ToLower(name), "."+z.domain) }
