package dns

import (
	"errors"

	"github.com/miekg/dns"

	"disc/discovery"
	"disc/discovery/lookup"
	"disc/discovery/view"
)

// response is the answer to a question, before it is packed.
type response struct {
	rcode         int
	answer, extra []dns.RR
	authority     string // owner of the SOA record of an empty answer; empty: there is none
	anySubset     bool   // any subset of the answer will do

	// followed are the scopes of other names that the answer depends on.
	followed []discovery.Scope

	// service is set if the response depends on this service alone. Then the service can
	// cache it.
	service *view.Service
}

func refused() response { return response{rcode: dns.RcodeRefused} }

// resolve answers a question from a snapshot. Except for the order of the records, the
// response is a function of the arguments.
func (z *zone) resolve(s *view.Snapshot, q question) response {
	if !q.inside {
		return z.resolveReverse(s, q)
	}
	r, ok := z.resolveInDomain(s, q)
	switch {
	case ok || z.isEmptyNonTerminal(s, q.labels):
		r.rcode = dns.RcodeSuccess
	default:
		r.rcode = dns.RcodeNameError
	}
	if q.qtype == dns.TypeANY && len(r.answer) > 0 {
		r.answer, r.extra = []dns.RR{z.hinfo(q)}, nil
	}
	r.authority = z.domain
	return r
}

// resolveInDomain answers a question about a name in the domain. It returns false where
// the name does not exist.
func (z *zone) resolveInDomain(s *view.Snapshot, q question) (response, bool) {
	if len(q.labels) == 0 {
		return z.resolveApex(s, q), true
	}
	if ip, ok := addressLabel(q.labels); ok {
		return response{answer: z.addressNameRecords(q, ip)}, true
	}
	m, ok := parseName(q.labels)
	switch {
	case !ok:
		return response{}, false
	case m.name.Kind == discovery.NameBrowse:
		return z.browseServices(s, q), true
	}
	return z.resolveLookup(s, q, m)
}

// resolveLookup answers for a name that a lookup accepts.
func (z *zone) resolveLookup(s *view.Snapshot, q question, m parsedName) (response, bool) {
	found, err := lookup.Lookup(s, z.query(m))
	if errors.Is(err, discovery.ErrNotFound) || errors.Is(err, discovery.ErrInvalid) {
		return response{}, false
	}
	if m.name.Kind == discovery.NameNode {
		return z.resolveNode(s, q, found.Endpoints), true
	}
	service, ok := s.Service(m.name.Service)
	if !ok || len(found.Endpoints) == 0 && !hasTagAndPort(service, m.name) {
		return response{}, false
	}
	r := z.resolveService(s, q, m, service, found.Endpoints)
	if m.name.Kind == discovery.NameService && len(r.followed) == 0 {
		r.service = service
	}
	return r, true
}

// query returns the lookup of a name.
func (z *zone) query(m parsedName) lookup.Query {
	return lookup.Query{
		Name: m.lookup, StrictName: true, Selector: lookup.Selector{Port: m.port}, PreferZone: z.preferZone, PanicThreshold: z.panic,
	}
}

// hasTagAndPort reports whether an instance of the service, healthy or not, has the tag
// and the port of a name.
func hasTagAndPort(service *view.Service, name discovery.Name) bool {
	if name.Tag == "" && name.Port == "" {
		return true
	}
	selector := lookup.Selector{Port: name.Port}
	if name.Tag != "" {
		selector.Tags = []string{name.Tag}
	}
	for _, e := range service.Entries() {
		if selector.Match(e) == "" {
			return true
		}
	}
	return false
}

func (z *zone) resolveService(s *view.Snapshot, q question, m parsedName, service *view.Service, endpoints []discovery.Endpoint) response {
	switch q.qtype {
	case dns.TypeA, dns.TypeAAAA, dns.TypeCNAME:
		return z.addressRecords(s, q, endpoints)
	case dns.TypeSRV:
		return z.srvRecords(q, service, endpoints)
	case dns.TypeTXT:
		return z.txtRecords(q, m, endpoints)
	case dns.TypePTR:
		if m.browsed {
			return z.browseInstances(q, service, endpoints)
		}
	case dns.TypeANY:
		if len(endpoints) > 0 {
			return response{answer: []dns.RR{z.hinfo(q)}}
		}
	}
	return response{}
}

func (z *zone) resolveNode(s *view.Snapshot, q question, endpoints []discovery.Endpoint) response {
	switch q.qtype {
	case dns.TypeA, dns.TypeAAAA, dns.TypeCNAME:
		return z.addressRecords(s, q, endpoints)
	case dns.TypeANY:
		return response{answer: []dns.RR{z.hinfo(q)}}
	}
	return response{}
}

// resolveApex answers for the domain itself.
func (z *zone) resolveApex(s *view.Snapshot, q question) response {
	switch q.qtype {
	case dns.TypeSOA, dns.TypeANY:
		return response{answer: []dns.RR{z.soa(z.domain, s.Revision())}}
	case dns.TypeNS:
		name := z.addressName(z.nameserver)
		return response{
			answer: []dns.RR{&dns.NS{Hdr: z.header(q.name, dns.TypeNS), Ns: name}},
			extra:  []dns.RR{z.addressRecord(name, z.nameserver)},
		}
	}
	return response{}
}

// hinfo returns the answer to ANY (RFC 8482, section 4.2).
func (z *zone) hinfo(q question) dns.RR {
	return &dns.HINFO{Hdr: z.header(q.name, dns.TypeHINFO), Cpu: "RFC8482"}
}
