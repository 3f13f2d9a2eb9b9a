package dns

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"disc/discovery"
	"disc/discovery/view"
)

func (z *zone) header(owner string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: rrtype, Class: dns.ClassINET, Ttl: z.ttl}
}

// address is the A or AAAA record of an IP address.
func (z *zone) address(owner string, ip netip.Addr) dns.RR {
	if ip.Is4() {
		return &dns.A{Hdr: z.header(owner, dns.TypeA), A: ip.AsSlice()}
	}
	return &dns.AAAA{Hdr: z.header(owner, dns.TypeAAAA), AAAA: ip.AsSlice()}
}

// addresses answers A, AAAA and CNAME, each address once (RFC 2181, section 5). Where
// there is no IP address, the answer to all three is a CNAME to the host name that comes
// first.
func (z *zone) addresses(q question, endpoints []discovery.Endpoint) response {
	r := response{any: true}
	seen := make(map[netip.Addr]bool, len(endpoints))
	host := ""
	for _, e := range endpoints {
		ip, ok := parseIP(e.Address)
		switch {
		case !ok:
			host = cmp.Or(host, hostName(e.Address))
		case !seen[ip]:
			seen[ip] = true
			if rr := z.address(q.name, ip); rr.Header().Rrtype == q.qtype {
				r.answer = append(r.answer, rr)
			}
		}
	}
	if len(seen) == 0 && host != "" {
		r.answer = []dns.RR{&dns.CNAME{Hdr: z.header(q.name, dns.TypeCNAME), Target: host}}
	}
	return r
}

// oneAddress answers for the name of an address.
func (z *zone) oneAddress(q question, ip netip.Addr) []dns.RR {
	if q.qtype == dns.TypeANY || q.qtype == dns.TypeA && ip.Is4() || q.qtype == dns.TypeAAAA && ip.Is6() {
		return []dns.RR{z.address(q.name, ip)}
	}
	return nil
}

// services answers SRV (RFC 2782) for the endpoints that have a port, with the
// addresses of all targets.
func (z *zone) services(q question, service *view.Service, endpoints []discovery.Endpoint) response {
	var r response
	known := map[dns.SRV]bool{}
	glued := map[string]bool{}
	for _, e := range endpoints {
		target, ip := z.target(service, e.ID, e.Address)
		srv := dns.SRV{Hdr: z.header(q.name, dns.TypeSRV), Priority: z.priority(e), Weight: uint16(e.Weight), Port: uint16(e.Port), Target: target}
		if e.Port == 0 || target == "" || known[srv] {
			continue
		}
		known[srv] = true
		r.answer = append(r.answer, &srv)
		if ip.IsValid() && !glued[target] {
			glued[target] = true
			r.extra = append(r.extra, z.address(target, ip))
		}
	}
	return r
}

// priority is 0, or 1 for an instance that is only to be used when the others fail: of
// another zone than the preferred, or a suspect.
func (z *zone) priority(e discovery.Endpoint) uint16 {
	if e.Suspect || z.preferZone != "" && e.Zone != z.preferZone {
		return 1
	}
	return 0
}

// texts answers TXT: the meta of each endpoint as one record. An instance as DNS-SD
// names it has a record even without meta (RFC 6763, section 6.1).
func (z *zone) texts(q question, m meaning, endpoints []discovery.Endpoint) response {
	var r response
	known := map[string]bool{}
	for _, e := range endpoints {
		text := metaText(e.Meta)
		if len(text) == 0 && m.instance {
			text = []string{""}
		}
		if key := strings.Join(text, "\x00"); len(text) > 0 && !known[key] {
			known[key] = true
			r.answer = append(r.answer, &dns.TXT{Hdr: z.header(q.name, dns.TypeTXT), Txt: text})
		}
	}
	return r
}

// maxText is the longest string of a TXT record, RFC 1035.
const maxText = 255

// metaText writes meta as strings of k=v, sorted, with the key quoted as RFC 1464 has
// it. A string of TXT ends at 255 bytes; what is longer is left to the other
// protocols.
func metaText(meta discovery.Meta) []string {
	var text []string
	for _, key := range slices.Sorted(maps.Keys(meta)) {
		if s := quoteKey(key) + "=" + meta[key]; len(s) <= maxText {
			text = append(text, strings.ReplaceAll(s, `\`, `\\`)) // the library reads escapes
		}
	}
	return text
}

// quoteKey writes a grave accent before what would end or change the name of an
// attribute: "=", the accent itself, and spaces around it.
func quoteKey(key string) string {
	inner := strings.Trim(key, " \t")
	before, after, _ := strings.Cut(key, inner)
	if inner == "" {
		before, after = key, ""
	}
	spaces := strings.NewReplacer(" ", "` ", "\t", "`\t")
	return spaces.Replace(before) + strings.NewReplacer("=", "`=", "`", "``").Replace(inner) + spaces.Replace(after)
}

// soa is the SOA record of a zone (RFC 2308: its TTL and minimum bound how long
// nothing is remembered). The serial is the revision of the view.
func (z *zone) soa(owner string, revision int64) *dns.SOA {
	return &dns.SOA{
		Hdr: z.header(owner, dns.TypeSOA), Ns: z.addressName(z.nameserver), Mbox: "hostmaster." + z.domain,
		Serial: uint32(revision), Refresh: 3600, Retry: 600, Expire: 86400, Minttl: z.ttl,
	}
}
