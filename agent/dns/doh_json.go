package dns

import (
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"disc/agent/api"
	"disc/discovery"
)

// JSON answers a question in the JSON form of DNS over HTTPS, without truncation, and
// returns the time that the answer may be cached. qtype is the name of a type, in any
// case, or a number from 1 to 65535; empty: A. A name or type that DNS does not allow is
// an [discovery.ErrInvalid].
func (r *Responder) JSON(name, qtype string, checkingDisabled bool) (api.DNSAnswer, time.Duration, error) {
	packet, err := jsonQuery(name, qtype)
	if err != nil {
		return api.DNSAnswer{}, 0, err
	}
	answer, ttl, err := r.Exchange(packet, wholeSize)
	if err != nil {
		return api.DNSAnswer{}, 0, err
	}
	var m dns.Msg
	if err := m.Unpack(answer); err != nil {
		return api.DNSAnswer{}, 0, discovery.Errorf(discovery.ErrUnavailable, "dns: unpack the answer for %s: %v", name, err)
	}
	return toJSON(&m, checkingDisabled), ttl, nil
}

func jsonQuery(name, qtype string) ([]byte, error) {
	number, ok := parseType(qtype)
	if !ok {
		return nil, discovery.Errorf(discovery.ErrInvalid, "type %.20q is not a DNS type; use A, AAAA, SRV, TXT, PTR or a number from 1 to 65535", qtype)
	}
	name = dns.Fqdn(name)
	if _, ok := dns.IsDomainName(name); !ok {
		return nil, discovery.Errorf(discovery.ErrInvalid, "name %.40q is not a DNS name; use one such as web.disc", name)
	}
	m := new(dns.Msg).SetQuestion(name, number).SetEdns0(ednsSize, false)
	packet, err := m.Pack()
	if err != nil {
		return nil, discovery.Errorf(discovery.ErrInvalid, "name %.40q is not a DNS name: %v", name, err)
	}
	return packet, nil
}

func parseType(text string) (uint16, bool) {
	if text == "" {
		return dns.TypeA, true
	}
	if t, ok := dns.StringToType[strings.ToUpper(text)]; ok {
		return t, t != dns.TypeNone
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return uint16(n), err == nil && n > 0
}

func toJSON(m *dns.Msg, checkingDisabled bool) api.DNSAnswer {
	a := api.DNSAnswer{
		Status: m.Rcode, TC: m.Truncated, RD: m.RecursionDesired, RA: m.RecursionAvailable, CD: checkingDisabled,
		Answer: recordsJSON(m.Answer), Authority: recordsJSON(m.Ns), Additional: recordsJSON(m.Extra),
	}
	for _, q := range m.Question {
		a.Question = append(a.Question, api.DNSQuestion{Name: q.Name, Type: q.Qtype})
	}
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				a.Comment = dns.ExtendedErrorCodeToString[e.InfoCode]
			}
		}
	}
	return a
}

func recordsJSON(records []dns.RR) []api.DNSRecord {
	var all []api.DNSRecord
	for _, rr := range records {
		h := rr.Header()
		if h.Rrtype != dns.TypeOPT {
			all = append(all, api.DNSRecord{Name: h.Name, Type: h.Rrtype, TTL: h.Ttl, Data: strings.TrimPrefix(rr.String(), h.String())})
		}
	}
	return all
}
