package dns

import (
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

// addressRecord returns the A or AAAA record of an IP address.
func (z *zone) addressRecord(owner string, ip netip.Addr) dns.RR {
	if ip.Is4() {
		return &dns.A{Hdr: z.header(owner, dns.TypeA), A: ip.AsSlice()}
	}
	return &dns.AAAA{Hdr: z.header(owner, dns.TypeAAAA), AAAA: ip.AsSlice()}
}

// addressRecords answers A, AAAA and CNAME, with each address once (RFC 2181, section 5).
// Where no endpoint has an address, in itself or by a name in the domain, the answer to all three
// is a CNAME to the first host name.
func (z *zone) addressRecords(s *view.Snapshot, q question, endpoints []discovery.Endpoint) response {
	a := aliases{zone: z, snapshot: s}
	addresses := a.addresses(make([]netip.Addr, 0, len(endpoints)), endpoints)
	r := response{anySubset: true, followed: a.scopes}
	seen := make(map[netip.Addr]bool, len(addresses))
	for _, ip := range addresses {
		if !seen[ip] {
			seen[ip] = true
			if rr := z.addressRecord(q.name, ip); rr.Header().Rrtype == q.qtype {
				r.answer = append(r.answer, rr)
			}
		}
	}
	if len(seen) == 0 && a.unknown != "" {
		r.answer = []dns.RR{&dns.CNAME{Hdr: z.header(q.name, dns.TypeCNAME), Target: a.unknown}}
	}
	return r
}

// addressNameRecords answers for the name of an address, such as 0a000005.addr.
func (z *zone) addressNameRecords(q question, ip netip.Addr) []dns.RR {
	if q.qtype == dns.TypeANY || q.qtype == dns.TypeA && ip.Is4() || q.qtype == dns.TypeAAAA && ip.Is6() {
		return []dns.RR{z.addressRecord(q.name, ip)}
	}
	return nil
}

// srvRecords answers SRV (RFC 2782) for the endpoints that have a port. The addresses of
// the targets are additional records. The weights are scaled so that the largest is 65535: some
// clients, such as HAProxy, use only the upper 8 of the 16 bits.
func (z *zone) srvRecords(q question, service *view.Service, endpoints []discovery.Endpoint) response {
	var r response
	known := map[dns.SRV]bool{}
	glued := map[string]bool{}
	largest := 1
	for _, e := range endpoints {
		largest = max(largest, e.Weight)
	}
	for _, e := range endpoints {
		target, ip := z.target(service, e.ID, e.Address)
		srv := dns.SRV{Hdr: z.header(q.name, dns.TypeSRV), Priority: z.priority(e), Weight: uint16(e.Weight * discovery.MaxWeight / largest), Port: uint16(e.Port), Target: target}
		if e.Port == 0 || target == "" || known[srv] {
			continue
		}
		known[srv] = true
		r.answer = append(r.answer, &srv)
		if ip.IsValid() && !glued[target] {
			glued[target] = true
			r.extra = append(r.extra, z.addressRecord(target, ip))
		}
	}
	return r
}

// priority returns the priority of an SRV record: 1 for an instance to use only when the
// others fail, which is a suspect or in another zone than the preferred one; otherwise 0.
func (z *zone) priority(e discovery.Endpoint) uint16 {
	if e.Suspect || z.preferZone != "" && e.Zone != z.preferZone {
		return 1
	}
	return 0
}

// txtRecords answers TXT with one record for the meta of each endpoint. A DNS-SD instance
// has a record even without meta (RFC 6763, section 6.1).
func (z *zone) txtRecords(q question, m parsedName, endpoints []discovery.Endpoint) response {
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

// maxText is the greatest length of a string in a TXT record, in bytes (RFC 1035).
const maxText = 255

// metaText returns meta as strings of the form k=v, sorted by key, with the keys quoted by
// RFC 1464. It leaves out those that are longer than maxText; the other protocols have
// them.
func metaText(meta discovery.Meta) []string {
	var text []string
	for _, key := range slices.Sorted(maps.Keys(meta)) {
		if s := quoteKey(key) + "=" + meta[key]; len(s) <= maxText {
			text = append(text, strings.ReplaceAll(s, `\`, `\\`)) // the library interprets escapes
		}
	}
	return text
}

// quoteKey puts a grave accent before each character that would end or change the name of
// an attribute (RFC 1464): "=", the accent itself, and white space at either end.
func quoteKey(key string) string {
	inner := strings.Trim(key, " \t")
	before, after, _ := strings.Cut(key, inner)
	if inner == "" {
		before, after = key, ""
	}
	spaces := strings.NewReplacer(" ", "` ", "\t", "`\t")
	return spaces.Replace(before) + strings.NewReplacer("=", "`=", "`", "``").Replace(inner) + spaces.Replace(after)
}

// soa returns the SOA record of a zone. Its serial is the revision of the view. Its TTL
// and minimum limit how long a negative answer is cached (RFC 2308).
func (z *zone) soa(owner string, revision int64) *dns.SOA {
	return &dns.SOA{
		Hdr: z.header(owner, dns.TypeSOA), Ns: z.addressName(z.nameserver), Mbox: "hostmaster." + z.domain,
		Serial: uint32(revision), Refresh: 3600, Retry: 600, Expire: 86400, Minttl: z.ttl,
	}
}
