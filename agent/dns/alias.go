package dns

import (
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"disc/discovery"
	"disc/discovery/lookup"
	"disc/discovery/view"
)

// maxAliases is the greatest number of names in the domain that one answer follows.
const maxAliases = 16

// aliases finds the addresses of endpoints whose address is a host name in the domain, such as
// db.disc. Resolvers do not ask a server again for the target of a CNAME that it answered with.
// So an answer has the addresses themselves, each once.
type aliases struct {
	zone     *zone
	snapshot *view.Snapshot
	seen     map[string]bool   // names that were followed, which ends loops
	scopes   []discovery.Scope // what the lookups of these names may need
	unknown  string            // the first host name without an address here, rather one outside of the domain
}

// addresses appends the addresses of endpoints to found, in the order of the endpoints.
func (a *aliases) addresses(found []netip.Addr, endpoints []discovery.Endpoint) []netip.Addr {
	for _, e := range endpoints {
		if ip, ok := parseIP(e.Address); ok {
			found = append(found, ip)
			continue
		}
		host := hostName(e.Address)
		if host == "" {
			continue
		}
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
	if !a.zone.has(host) || a.seen[host] || len(a.seen) == maxAliases {
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
	a.scopes = append(a.scopes, discovery.ScopesOf(m.lookup, "", false)...)
	target, err := lookup.Lookup(a.snapshot, a.zone.query(m))
	if err != nil {
		return found
	}
	return a.addresses(found, target.Endpoints)
}

// has reports whether a fully qualified name is below the domain.
func (z *zone) has(name string) bool { return strings.HasSuffix(strings.ToLower(name), "."+z.domain) }
