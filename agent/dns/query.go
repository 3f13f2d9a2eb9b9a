package dns

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/miekg/dns"
)

// Sizes of messages, in bytes.
const (
	headerSize = 12
	plainSize  = dns.MinMsgSize // of an answer over UDP without EDNS, RFC 1035
	ednsSize   = 1232           // passes every network unfragmented, DNS flag day 2020
	wholeSize  = dns.MaxMsgSize // of an answer over TCP or HTTPS

	optSize = 11          // of an OPT record without options
	optRoom = optSize + 6 // with an extended error, RFC 8914
)

// Limits of an answer over UDP: the size that the query offers, up to a bound.
const (
	udpLimit      = 0  // up to ednsSize
	localUDPLimit = -1 // up to localSize, since nothing is lost to fragments on loopback
)

// The bits of a header's flags.
const (
	flagResponse = 1 << 15
	maskOpcode   = 0xf << 11
	flagAA       = 1 << 10
	flagTC       = 1 << 9
	flagRD       = 1 << 8
	flagDO       = 1 << 15 // in an OPT record
)

// Limits of names in packets, RFC 1035.
const (
	maxLabel      = 63
	maxNameWire   = 255
	maxNameLabels = 127
	pointerLabel  = 0xc0 // and above: the rest of the name is elsewhere
)

// query is a parsed query. Parsing allocates nothing.
type query struct {
	received time.Time
	random   uint32 // picks one of the cached orders of an answer

	packet []byte
	flags  uint16
	end    int // of the question in packet; headerSize: it is malformed

	name   [maxNameWire]byte    // in wire format, in lower case
	labels [maxNameLabels]uint8 // the offsets in name of the labels' length bytes
	length int                  // of name
	count  int                  // of labels, without the root
	below  int                  // of labels before the domain; -1: the name is not in the domain

	qtype, qclass uint16

	edns    bool
	version uint8
	do      bool
	size    int // of the largest answer that the sender accepts over UDP
}

// read parses a packet. It returns false for a packet that gets no answer at all: it is
// not a query, or too short to have an id. Otherwise it returns the response code for the
// form of the query; NOERROR: the query is well-formed.
func (q *query) read(packet []byte, domain []byte) (rcode int, ok bool) {
	q.packet, q.end = packet, headerSize
	if len(packet) < headerSize {
		return 0, false
	}
	q.flags = binary.BigEndian.Uint16(packet[2:])
	switch {
	case q.flags&flagResponse != 0:
		return 0, false
	case q.flags&maskOpcode != 0:
		return dns.RcodeNotImplemented, true
	case binary.BigEndian.Uint16(packet[4:]) != 1:
		return dns.RcodeFormatError, true
	}
	end := q.readQuestion(headerSize)
	if end < 0 || !q.readRecords(end) {
		q.edns = false
		return dns.RcodeFormatError, true
	}
	q.end = end
	q.below = q.countLabelsBelow(domain)
	switch {
	case q.version != 0:
		return dns.RcodeBadVers, true
	case q.qclass != dns.ClassINET && q.qclass != dns.ClassANY, isMeta(q.qtype):
		return dns.RcodeRefused, true
	}
	return dns.RcodeSuccess, true
}

// isMeta reports whether a type belongs to messages and transfers rather than to records.
// ANY does not.
func isMeta(qtype uint16) bool {
	return qtype == dns.TypeNone || qtype == dns.TypeOPT || qtype >= dns.TypeTKEY && qtype < dns.TypeANY
}

// readQuestion reads the question and returns the offset of its end; -1: it is malformed.
func (q *query) readQuestion(at int) int {
	for {
		if at >= len(q.packet) {
			return -1
		}
		n := int(q.packet[at])
		end := at + 1 + n
		if n > maxLabel || end > len(q.packet) || q.length+1+n > maxNameWire {
			return -1 // there is no earlier name for a pointer to point to
		}
		q.name[q.length] = byte(n)
		for k, c := range q.packet[at+1 : end] {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			q.name[q.length+1+k] = c
		}
		if n > 0 {
			q.labels[q.count] = uint8(q.length)
			q.count++
		}
		q.length += 1 + n
		at = end
		if n == 0 {
			break
		}
	}
	if at+4 > len(q.packet) {
		return -1
	}
	q.qtype, q.qclass = binary.BigEndian.Uint16(q.packet[at:]), binary.BigEndian.Uint16(q.packet[at+2:])
	return at + 4
}

// readRecords reads the OPT record among the records after the question. It returns
// false if one of them is malformed.
func (q *query) readRecords(at int) bool {
	before := int(binary.BigEndian.Uint16(q.packet[6:])) + int(binary.BigEndian.Uint16(q.packet[8:]))
	records := before + int(binary.BigEndian.Uint16(q.packet[10:]))
	for n := range records {
		name := at
		at = skipName(q.packet, at)
		if at < 0 || at+10 > len(q.packet) {
			return false
		}
		record := q.packet[at:]
		at += 10 + int(binary.BigEndian.Uint16(record[8:]))
		if at > len(q.packet) {
			return false
		}
		if binary.BigEndian.Uint16(record) != dns.TypeOPT {
			continue
		}
		if q.edns || n < before || q.packet[name] != 0 || !validOptions(q.packet[at-int(binary.BigEndian.Uint16(record[8:])):at]) {
			return false
		}
		q.edns = true
		q.size = int(binary.BigEndian.Uint16(record[2:]))
		q.version = record[5]
		q.do = binary.BigEndian.Uint16(record[6:])&flagDO != 0
	}
	return at == len(q.packet)
}

// validOptions reports whether the options of an OPT record are well-formed. Their values
// are ignored.
func validOptions(b []byte) bool {
	for len(b) >= 4 {
		n := 4 + int(binary.BigEndian.Uint16(b[2:]))
		if n > len(b) {
			return false
		}
		b = b[n:]
	}
	return len(b) == 0
}

// skipName returns the offset of the end of the name at an offset; -1: it is malformed.
func skipName(packet []byte, at int) int {
	for at < len(packet) {
		n := int(packet[at])
		switch {
		case n == 0:
			return at + 1
		case n >= pointerLabel:
			return at + 2
		case n > maxLabel:
			return -1
		}
		at += 1 + n
	}
	return -1
}

// countLabelsBelow returns the number of labels before the domain; -1: the name is not in
// the domain.
func (q *query) countLabelsBelow(domain []byte) int {
	at := q.length - len(domain)
	if at < 0 || !bytes.Equal(q.name[at:q.length], domain) {
		return -1
	}
	for n := range q.count {
		if int(q.labels[n]) == at {
			return n
		}
	}
	return -1
}

// label returns label n of the name, in lower case.
func (q *query) label(n int) []byte {
	at := int(q.labels[n])
	return q.name[at+1 : at+1+int(q.name[at])]
}

// room returns the greatest size of an answer without its OPT record, in bytes. limit is
// that of the transport: a size, or udpLimit or localUDPLimit.
func (q *query) room(limit int) int {
	switch {
	case limit <= 0 && !q.edns:
		return plainSize
	case limit == udpLimit:
		limit = min(max(q.size, plainSize), ednsSize)
	case limit == localUDPLimit:
		limit = min(max(q.size, plainSize), localSize)
	}
	if q.edns {
		limit -= optRoom
	}
	return limit
}
