package dns

import (
	"math/rand/v2"
	"time"

	"github.com/miekg/dns"

	"disc/discovery"
)

// Responder answers DNS queries from the view. It is safe for use by many goroutines.
type Responder struct {
	catalog Catalog
	zone    *zone
	metrics *metrics
	shelves any // the key of what is kept of a service
}

// New returns a Responder over the agent's view. It fails for options that cannot be,
// with an [discovery.ErrInvalid], and for metrics that the registerer already has.
func New(catalog Catalog, o Options) (*Responder, error) {
	z, err := newZone(o)
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	return &Responder{catalog: catalog, zone: z, metrics: m, shelves: &memoKey{"packed answers"}}, nil
}

// Exchange answers a query as it came in a packet, in at most limit bytes (512 to
// 65535, TCP's and HTTPS's own), and says for how long the answer may be kept. A
// packet that is no query at all is an [discovery.ErrInvalid].
func (r *Responder) Exchange(packet []byte, limit int) (answer []byte, ttl time.Duration, err error) {
	answer, rcode, ok := r.respond(nil, packet, min(max(limit, plainSize), wholeSize))
	if !ok {
		return nil, 0, discovery.Errorf(discovery.ErrInvalid, "%d bytes are no DNS query", len(packet))
	}
	if rcode == dns.RcodeSuccess || rcode == dns.RcodeNameError {
		ttl = time.Duration(r.zone.ttl) * time.Second
	}
	return answer, ttl, nil
}

// respond appends the answer to a query to b, in limit bytes or, with limit 0, what
// the query says of UDP. It reports false for what is not to be answered.
func (r *Responder) respond(b, packet []byte, limit int) (answer []byte, rcode int, ok bool) {
	q := query{asked: time.Now(), luck: rand.Uint32()}
	rcode, ok = q.read(packet, r.zone.wire)
	if !ok {
		return b, 0, false
	}
	var p *packed
	var serial uint32
	var why extendedError
	if rcode != dns.RcodeSuccess {
		p = failure(rcode)
	} else {
		p, serial, why = r.answer(&q, q.room(limit))
	}
	b = p.appendTo(b, &q, serial, why)
	r.metrics.observe(q.qtype, p.rcode, time.Since(q.asked))
	return b, p.rcode, true
}

// answer answers a well-formed query from the view.
func (r *Responder) answer(q *query, room int) (*packed, uint32, extendedError) {
	view, err := r.catalog.View()
	if err != nil {
		if q.within < 0 && !q.isReverse() {
			return failure(dns.RcodeRefused), 0, 0
		}
		return failure(dns.RcodeServerFailure), 0, notReady
	}
	var why extendedError
	if view.Stale {
		why = staleAnswer
	}
	s := view.Snapshot
	serial := uint32(s.Revision())
	kept := r.shelfOf(s, q)
	if kept != nil {
		if p := kept.pick(q, room); p != nil {
			return p, serial, why
		}
	}
	ask, err := q.question()
	if err != nil {
		return failure(dns.RcodeFormatError), serial, 0
	}
	answer := r.zone.resolve(s, ask)
	if kept != nil && answer.service == kept.service {
		return kept.keep(r.zone, s, q, ask, answer, room), serial, why
	}
	return r.zone.pack(s, ask, answer, room), serial, why
}

// isReverse reports whether the name is below those of reverse lookups.
func (q *query) isReverse() bool {
	if q.count < 2 || string(q.label(q.count-1)) != "arpa" {
		return false
	}
	under := string(q.label(q.count - 2))
	return under == "in-addr" || under == "ip6"
}
