package dns

import (
	"strings"

	"github.com/miekg/dns"

	"disc/discovery"
	"disc/discovery/view"
)

// browseServices answers with PTR records of all services (RFC 6763, section 9).
func (z *zone) browseServices(s *view.Snapshot, q question) response {
	var r response
	if q.qtype != dns.TypePTR && q.qtype != dns.TypeANY {
		return r
	}
	names := q.services
	if names == nil {
		names = serviceNames(s)
	}
	for _, service := range names {
		name := "_" + service + "._tcp.svc." + z.domain
		if isName(name) && !strings.Contains(service, ".") {
			r.answer = append(r.answer, z.ptrRecord(q.name, name))
		}
	}
	return r
}

func serviceNames(s *view.Snapshot) []string {
	var names []string
	for service := range s.Services() {
		if !service.Empty() {
			names = append(names, discovery.FoldName(service.Name))
		}
	}
	return names
}

// browseInstances answers with PTR records of the instances of a service type (RFC 6763,
// section 4), and adds the records that a browser asks for next (section 12.1). It leaves
// out an instance that DNS cannot name.
func (z *zone) browseInstances(q question, service *view.Service, endpoints []discovery.Endpoint) response {
	var r response
	for _, e := range endpoints {
		name := strings.ReplaceAll(e.ID, ".", `\.`) + "." + q.name
		one := []discovery.Endpoint{e}
		found := z.srvRecords(question{name: name}, service, one)
		if !isName(name) || len(found.answer) == 0 || z.hasCaseDuplicate(service, e.ID) {
			continue
		}
		r.answer = append(r.answer, z.ptrRecord(q.name, name))
		r.extra = append(r.extra, found.answer...)
		r.extra = append(r.extra, z.txtRecords(question{name: name}, parsedName{instance: true}, one).answer...)
		r.extra = append(r.extra, found.extra...)
	}
	return r
}

func (z *zone) ptrRecord(owner, target string) dns.RR {
	return &dns.PTR{Hdr: z.header(owner, dns.TypePTR), Ptr: target}
}
