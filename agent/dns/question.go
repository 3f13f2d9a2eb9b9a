package dns

import (
	"strings"

	"github.com/miekg/dns"

	"disc/discovery"
)

// question is the question of a query in the form that records are made from.
type question struct {
	name     string   // fully qualified, lower case, with the escapes of the library
	labels   []string // without escapes: those before the domain, or all of a name outside of it
	inside   bool     // in the domain
	qtype    uint16
	services []string // the names of all services; nil: the snapshot has all
}

// question returns the question of the query.
func (q *query) question() (question, error) {
	name, _, err := dns.UnpackDomainName(q.name[:q.length], 0)
	if err != nil {
		return question{}, err
	}
	count := q.below
	if count < 0 {
		count = q.count
	}
	labels := make([]string, count)
	for n := range labels {
		labels[n] = string(q.label(n))
	}
	return question{name: name, labels: labels, inside: q.below >= 0, qtype: q.qtype}, nil
}

// relativeName returns the name without the domain. It returns false where a label has a
// dot in it: no name of a lookup has one.
func relativeName(labels []string) (string, bool) {
	for _, l := range labels {
		if strings.Contains(l, ".") {
			return "", false
		}
	}
	return strings.Join(labels, "."), true
}

// parsedName is the meaning of a name in the domain.
type parsedName struct {
	lookup   string         // the name to look up
	name     discovery.Name // lookup, parsed
	port     string         // the named port of an instance of DNS-SD
	browsed  bool           // the name's PTR records are its instances
	instance bool           // the name is that of an instance in DNS-SD
}

// parseName parses the labels of a name: by the grammar of lookups, or as the name of a
// DNS-SD instance, <instance>.<_port>.<_tcp>.… (RFC 6763, section 4.1), whose first label
// may have dots in it.
func parseName(labels []string) (parsedName, bool) {
	if len(labels) > 2 && isServiceType(labels[1:]) && !strings.HasPrefix(labels[0], "_") {
		return parseInstanceName(labels[0], labels[1:])
	}
	lookup, ok := relativeName(labels)
	if !ok {
		return parsedName{}, false
	}
	name, err := discovery.ParseName(lookup, "")
	return parsedName{lookup: lookup, name: name, browsed: isServiceType(labels)}, err == nil
}

func parseInstanceName(id string, serviceType []string) (parsedName, bool) {
	m, ok := parseName(serviceType)
	if !ok || m.name.Kind != discovery.NameService || discovery.ValidateID(id) != nil {
		return parsedName{}, false
	}
	m.lookup = id + "." + m.name.Service + ".inst"
	m.port = m.name.Port
	m.name = discovery.Name{Kind: discovery.NameInstance, Service: m.name.Service, ID: id}
	m.browsed, m.instance = false, true
	return m, true
}

// scopes returns what the answer to a question in the domain may need, besides the names of all
// services. That includes whether a name exists because there are names below it, such as web.inst.
func (q question) scopes() []discovery.Scope {
	if m, ok := parseName(q.labels); ok {
		return discovery.ScopesOf(m.lookup, "", false)
	}
	labels := q.labels
	if last := len(labels) - 1; last > 0 && labels[last] == "svc" {
		labels = labels[:last]
	}
	if len(labels) == 2 && (labels[1] == "inst" || labels[0] == "_tcp" || labels[0] == "_udp") {
		service := labels[0]
		if labels[1] != "inst" {
			service = labels[1]
		}
		return discovery.ScopesOf(service+".svc", "", false)
	}
	return nil
}

// isBelowNode reports whether the name is one below which nodes may be, such as example.com.node.
func (q question) isBelowNode() bool {
	return q.inside && len(q.labels) > 1 && q.labels[len(q.labels)-1] == "node"
}

// isServiceType reports whether labels begin as RFC 2782 has it: _web._tcp.
func isServiceType(labels []string) bool {
	return len(labels) > 1 && strings.HasPrefix(labels[0], "_") && (labels[1] == "_tcp" || labels[1] == "_udp")
}
