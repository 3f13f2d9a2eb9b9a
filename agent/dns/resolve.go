package dns

import (
	"errors"

	"github.com/miekg/dns"

	"disc/discovery"
	"disc/discovery/lookup"
	"disc/discovery/view"
)

// response is what is to be said to a question.
type response struct {
	rcode         int
	answer, extra []dns.RR
	authority     string // owner of the SOA record, when the answer is empty; "": none
	any           bool   // any part of the answer will do

	// service is what the response was made from, when nothing else was; else nil.
	service *view.Service
}

func refused() response { return response{rcode: dns.RcodeRefused} }

// resolve answers a question from a snapshot. It is a function of its arguments, but
// for the order of the records.
func (z *zone) resolve(s *view.Snapshot, q question) response {
	if !q.inside {
		return z.resolveReverse(s, q)
	}
	r, ok := z.records(s, q)
	switch {
	case ok || z.between(s, q.labels):
		r.rcode = dns.RcodeSuccess
	default:
		r.rcode = dns.RcodeNameError
	}
	if q.qtype == dns.TypeANY && len(r.answer) > 0 {
		r.answer, r.extra = []dns.RR{z.minimal(q)}, nil
	}
	r.authority = z.domain
	return r
}

// records answers a question about a name in the domain, or reports that it does not
// exist.
func (z *zone) records(s *view.Snapshot, q question) (response, bool) {
	if len(q.labels) == 0 {
		return z.resolveApex(s, q), true
	}
	if ip, ok := addressLabel(q.labels); ok {
		return response{answer: z.oneAddress(q, ip)}, true
	}
	m, ok := understand(q.labels)
	switch {
	case !ok:
		return response{}, false
	case m.name.Kind == discovery.NameBrowse:
		return z.browseServices(s, q), true
	}
	return z.resolveLookup(s, q, m)
}

// resolveLookup answers for the names that a lookup has.
func (z *zone) resolveLookup(s *view.Snapshot, q question, m meaning) (response, bool) {
	found, err := lookup.Lookup(s, lookup.Query{
		Name: m.lookup, Grammar: true, Selector: lookup.Selector{Port: m.port}, PreferZone: z.preferZone, Panic: z.panic,
	})
	if errors.Is(err, discovery.ErrNotFound) || errors.Is(err, discovery.ErrInvalid) {
		return response{}, false
	}
	if m.name.Kind == discovery.NameNode {
		return z.aboutNode(q, found.Endpoints), true
	}
	service, ok := s.Service(m.name.Service)
	if !ok || len(found.Endpoints) == 0 && !offered(service, m.name) {
		return response{}, false
	}
	r := z.aboutService(q, m, service, found.Endpoints)
	if m.name.Kind == discovery.NameService {
		r.service = service
	}
	return r, true
}

// offered reports whether an instance of the service, healthy or not, has the tag and
// port of a name.
func offered(service *view.Service, name discovery.Name) bool {
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

func (z *zone) aboutService(q question, m meaning, service *view.Service, endpoints []discovery.Endpoint) response {
	switch q.qtype {
	case dns.TypeA, dns.TypeAAAA, dns.TypeCNAME:
		return z.addresses(q, endpoints)
	case dns.TypeSRV:
		return z.services(q, service, endpoints)
	case dns.TypeTXT:
		return z.texts(q, m, endpoints)
	case dns.TypePTR:
		if m.browsed {
			return z.browseInstances(q, service, endpoints)
		}
	case dns.TypeANY:
		if len(endpoints) > 0 {
			return response{answer: []dns.RR{z.minimal(q)}}
		}
	}
	return response{}
}

func (z *zone) aboutNode(q question, endpoints []discovery.Endpoint) response {
	switch q.qtype {
	case dns.TypeA, dns.TypeAAAA, dns.TypeCNAME:
		return z.addresses(q, endpoints)
	case dns.TypeANY:
		return response{answer: []dns.RR{z.minimal(q)}}
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
			extra:  []dns.RR{z.address(name, z.nameserver)},
		}
	}
	return response{}
}

// minimal is the answer to ANY, RFC 8482, section 4.2.
func (z *zone) minimal(q question) dns.RR {
	return &dns.HINFO{Hdr: z.header(q.name, dns.TypeHINFO), Cpu: "RFC8482"}
}
