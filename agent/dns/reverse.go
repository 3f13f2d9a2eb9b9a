package dns

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"disc/discovery"
	"disc/discovery/view"
)

// resolveReverse answers for the reverse names of addresses in the snapshot, each of which
// is a zone of its own. It refuses all other names.
func (z *zone) resolveReverse(s *view.Snapshot, q question) response {
	ip, ok := reverseAddress(q.labels)
	if !ok {
		return refused()
	}
	names := z.namesOf(s, ip)
	if len(names) == 0 {
		return refused()
	}
	r := response{authority: q.name}
	switch q.qtype {
	case dns.TypePTR:
		for _, name := range names {
			r.answer = append(r.answer, z.ptrRecord(q.name, name))
		}
	case dns.TypeSOA:
		r.answer = []dns.RR{z.soa(q.name, s.Revision())}
	case dns.TypeANY:
		r.answer = []dns.RR{z.hinfo(q)}
	}
	return r
}

// namesOf returns the names of an address: first those of nodes, then those of instances
// that are not down, in the order of the services.
func (z *zone) namesOf(s *view.Snapshot, ip netip.Addr) []string {
	var names []string
	seen := map[string]bool{}
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	for n := range s.Nodes() {
		name := strings.ToLower(n.Node) + ".node." + z.domain
		if at, ok := parseIP(n.Address); ok && at == ip && isName(name) && !strings.ContainsAny(name, "_:") {
			add(name)
		}
	}
	for service := range s.Services() {
		byAddress := service.Memo(z.namesByAddress, func() any { return z.byAddress(service) }).(map[netip.Addr][]string)
		for _, name := range byAddress[ip] {
			add(name)
		}
	}
	return names
}

func (z *zone) byAddress(service *view.Service) map[netip.Addr][]string {
	names := map[netip.Addr][]string{}
	for _, e := range service.Entries() {
		if name, ip := z.target(service, e.ID, e.Address); ip.IsValid() && e.State != discovery.Down {
			names[ip] = append(names[ip], name)
		}
	}
	return names
}

// reverseAddress parses the labels of a reverse name: 5.0.0.10.in-addr.arpa (RFC 1035), or
// 32 hexadecimal digits before ip6.arpa (RFC 3596).
func reverseAddress(labels []string) (netip.Addr, bool) {
	n := len(labels) - 2
	if n < 0 || labels[n+1] != "arpa" {
		return netip.Addr{}, false
	}
	digits := slices.Clone(labels[:n])
	slices.Reverse(digits)
	text := strings.Join(digits, ".")
	switch {
	case labels[n] == "ip6" && n == 32:
		text = hexGroups(digits)
	case labels[n] != "in-addr" || n != 4:
		return netip.Addr{}, false
	}
	ip, err := netip.ParseAddr(text)
	return ip, err == nil && ip.Is4() == (n == 4) && ip.Zone() == ""
}

// hexGroups returns 32 hexadecimal digits as eight groups of four; empty: a label is not
// a digit.
func hexGroups(digits []string) string {
	var b strings.Builder
	for n, d := range digits {
		if n > 0 && n%4 == 0 {
			b.WriteByte(':')
		}
		if len(d) != 1 || !strings.Contains("0123456789abcdef", d) {
			return ""
		}
		b.WriteString(d)
	}
	return b.String()
}
