package dns

import (
	"strings"

	"github.com/miekg/dns"

	"disc/discovery"
)

// question is a question as answers are made from it.
type question struct {
	name   string   // fully qualified, lower case, as the library writes it
	labels []string // those before the domain, without escapes; of a name outside: all
	inside bool     // in the domain
	qtype  uint16
	names  []string // of all services, where the snapshot does not have all
}

// question makes the query's question.
func (q *query) question() (question, error) {
	name, _, err := dns.UnpackDomainName(q.name[:q.length], 0)
	if err != nil {
		return question{}, err
	}
	count := q.within
	if count < 0 {
		count = q.count
	}
	labels := make([]string, count)
	for n := range labels {
		labels[n] = string(q.label(n))
	}
	return question{name: name, labels: labels, inside: q.within >= 0, qtype: q.qtype}, nil
}

// relative is the name without the domain, if it is made of characters that the names
// of a lookup have; a dot within a label is none.
func relative(labels []string) (string, bool) {
	for _, l := range labels {
		if strings.Contains(l, ".") {
			return "", false
		}
	}
	return strings.Join(labels, "."), true
}

// meaning is what a name in the domain asks for.
type meaning struct {
	lookup   string         // the name to look up
	name     discovery.Name // the same, parsed
	port     string         // the named port of an instance of DNS-SD
	browsed  bool           // a name whose PTR records are its instances
	instance bool           // an instance as DNS-SD names it
}

// understand reads the labels of a name: by the grammar of lookups, or as a DNS-SD
// instance, <instance>.<_port>.<_tcp>.… (RFC 6763, section 4.1), whose first label may
// have dots in it.
func understand(labels []string) (meaning, bool) {
	if len(labels) > 2 && isServiceType(labels[1:]) && !strings.HasPrefix(labels[0], "_") {
		return understandInstance(labels[0], labels[1:])
	}
	lookup, ok := relative(labels)
	if !ok {
		return meaning{}, false
	}
	name, err := discovery.ParseName(lookup, "")
	return meaning{lookup: lookup, name: name, browsed: isServiceType(labels)}, err == nil
}

func understandInstance(id string, serviceType []string) (meaning, bool) {
	m, ok := understand(serviceType)
	if !ok || m.name.Kind != discovery.NameService || discovery.ValidateID(id) != nil {
		return meaning{}, false
	}
	m.lookup = id + "." + m.name.Service + ".inst"
	m.port = m.name.Port
	m.name = discovery.Name{Kind: discovery.NameInstance, Service: m.name.Service, ID: id}
	m.browsed, m.instance = false, true
	return m, true
}

// isServiceType reports whether labels begin as those of RFC 2782 do: _web._tcp.
func isServiceType(labels []string) bool {
	return len(labels) > 1 && strings.HasPrefix(labels[0], "_") && (labels[1] == "_tcp" || labels[1] == "_udp")
}
