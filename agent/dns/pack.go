package dns

import (
	"encoding/binary"
	"sort"
	"time"

	"github.com/miekg/dns"

	"disc/discovery/view"
)

// packed is a response in wire format, without the parts that depend on the query: id,
// flags, the spelling of the name, EDNS.
type packed struct {
	flags   uint16    // AA, TC and the lower 4 bits of the response code
	rcode   int       // all 12 bits
	counts  [3]uint16 // of answers, authorities and additional records
	tail    []byte    // the records after the question
	serial  int       // offset in tail of the serial of a negative answer's SOA; 0: there is none
	expires time.Time // of a cached order: when another takes its place
}

// failure returns an answer without records.
func failure(rcode int) *packed { return &packed{flags: uint16(rcode & 0xf), rcode: rcode} }

// serialFromEnd is the distance of the serial from the end of a SOA record, in bytes.
const serialFromEnd = 20

// pack packs a response to a question into at most room bytes.
func (z *zone) pack(s *view.Snapshot, q question, r response, room int) *packed {
	m := &dns.Msg{Compress: true, Question: []dns.Question{{Name: q.name, Qtype: q.qtype, Qclass: dns.ClassINET}}}
	head := m.Len()
	if len(r.answer) == 0 && r.authority != "" {
		m.Ns = []dns.RR{z.soa(r.authority, s.Revision())}
	}
	truncated := trim(m, r, room)
	b, err := m.Pack()
	if err != nil {
		return failure(dns.RcodeServerFailure)
	}
	p := failure(r.rcode)
	p.counts = [3]uint16{uint16(len(m.Answer)), uint16(len(m.Ns)), uint16(len(m.Extra))}
	p.tail = b[head:len(b):len(b)]
	if r.rcode != dns.RcodeRefused {
		p.flags |= flagAA
	}
	if truncated {
		p.flags |= flagTC
	}
	if len(m.Ns) > 0 {
		p.serial = len(p.tail) - serialFromEnd
	}
	return p
}

// trim adds as much of a response to the message as there is room for, and reports
// whether the message is truncated: it is not where only additional records are missing
// (RFC 2181, section 9), or where any subset of the answer will do.
func trim(m *dns.Msg, r response, room int) (truncated bool) {
	m.Answer = r.answer
	if m.Len() > room {
		n := maxFitting(min(len(r.answer), room/minRecord), func(n int) bool {
			m.Answer = r.answer[:n]
			return m.Len() <= room
		})
		m.Answer = r.answer[:n]
		return !r.anySubset
	}
	n := maxFitting(len(r.extra), func(n int) bool {
		m.Extra = r.extra[:n]
		return m.Len() <= room
	})
	m.Extra = r.extra[:n]
	return false
}

// minRecord is the size of the smallest record, in bytes: a compressed name without data.
const minRecord = 12

// maxFitting returns the greatest number up to limit for which fits is true.
func maxFitting(limit int, fits func(int) bool) int {
	return sort.Search(limit, func(n int) bool { return !fits(n + 1) })
}

// fits reports whether the answer to the query has at most room bytes.
func (p *packed) fits(q *query, room int) bool { return q.end+len(p.tail) <= room }

// extendedError is the code of an extended DNS error (RFC 8914); 0: none.
type extendedError uint16

const (
	staleAnswer = extendedError(dns.ExtendedErrorCodeStaleAnswer)
	notReady    = extendedError(dns.ExtendedErrorCodeNotReady)
)

// appendTo appends the answer to a query. serial is the current serial of the zone.
func (p *packed) appendTo(b []byte, q *query, serial uint32, why extendedError) []byte {
	flags := flagResponse | q.flags&(maskOpcode|flagRD) | p.flags
	questions, additional := uint16(0), p.counts[2]
	if q.end > headerSize {
		questions = 1
	}
	if q.edns {
		additional++
	}
	b = append(b, q.packet[0], q.packet[1])
	for _, v := range [...]uint16{flags, questions, p.counts[0], p.counts[1], additional} {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	b = append(b, q.packet[headerSize:q.end]...)
	at := len(b)
	b = append(b, p.tail...)
	if p.serial > 0 {
		binary.BigEndian.PutUint32(b[at+p.serial:], serial)
	}
	if q.edns {
		b = appendOPT(b, p.rcode, q.do, why)
	}
	return b
}

// appendOPT appends the OPT record of an answer (RFC 6891).
func appendOPT(b []byte, rcode int, do bool, why extendedError) []byte {
	flags, options := uint16(0), uint16(0)
	if do {
		flags = flagDO
	}
	if why != 0 {
		options = optRoom - optSize
	}
	b = append(b, 0)
	for _, v := range [...]uint16{dns.TypeOPT, ednsSize, uint16(rcode>>4) << 8, flags, options} {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	if why != 0 {
		for _, v := range [...]uint16{dns.EDNS0EDE, 2, uint16(why)} {
			b = binary.BigEndian.AppendUint16(b, v)
		}
	}
	return b
}
