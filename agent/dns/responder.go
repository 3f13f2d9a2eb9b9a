package dns

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/miekg/dns"

	"disc/agent/answercache"
	"disc/discovery"
	"disc/discovery/view"
)

// Responder answers DNS queries from the view. It is safe for use by many goroutines.
type Responder struct {
	catalog Catalog
	zone    *zone
	metrics *metrics
	cache   *answercache.Cache[packed]
}

// New returns a Responder over the agent's view. It fails with an [discovery.ErrInvalid]
// for an option that is out of range, and for metrics that the registerer already has.
func New(catalog Catalog, o Options) (*Responder, error) {
	z, err := newZone(o)
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	return &Responder{catalog: catalog, zone: z, metrics: m, cache: &answercache.Cache[packed]{}}, nil
}

// Exchange answers the query in a packet in at most limit bytes (512 to 65535, the limit
// of TCP and HTTPS), and returns the time that the answer may be cached. A packet that is
// not a query is an [discovery.ErrInvalid].
func (r *Responder) Exchange(packet []byte, limit int) (answer []byte, ttl time.Duration, err error) {
	answer, rcode, ok := r.respond(r.completer(context.Background()), nil, packet, min(max(limit, plainSize), wholeSize))
	if !ok {
		return nil, 0, discovery.Errorf(discovery.ErrInvalid, "%d bytes are not a DNS query", len(packet))
	}
	if rcode == dns.RcodeSuccess || rcode == dns.RcodeNameError {
		ttl = time.Duration(r.zone.ttl) * time.Second
	}
	return answer, ttl, nil
}

// rcodePending is the response code of an answer that has to wait for etcd.
const rcodePending = -1

// respond appends the answer to the query in a packet to b. The answer has at most limit
// bytes, which [query.room] explains. ok is false for a packet that gets no answer,
// and, with the rcode rcodePending, where the view lacks what the question is about and
// complete is nil.
func (r *Responder) respond(complete completion, b, packet []byte, limit int) (answer []byte, rcode int, ok bool) {
	q := query{received: time.Now(), random: rand.Uint32()}
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
		if p, serial, why = r.answer(complete, &q, q.room(limit)); p == nil {
			return b, rcodePending, false
		}
	}
	b = p.appendTo(b, &q, serial, why)
	r.metrics.observe(q.qtype, p.rcode, time.Since(q.received))
	return b, p.rcode, true
}

// truncate appends to b an answer to the query in a packet that has nothing but the question and
// the flag that the answer is truncated. It is no longer than the query.
func (r *Responder) truncate(b, packet []byte) []byte {
	var q query
	if _, ok := q.read(packet, r.zone.wire); !ok {
		return b
	}
	p := failure(dns.RcodeSuccess) // NXDOMAIN would be taken for the whole answer
	p.flags |= flagAA | flagTC
	return p.appendTo(b, &q, 0, 0)
}

// answer answers a well-formed query from the view. It returns nil where the view lacks
// what the question is about and complete is nil.
func (r *Responder) answer(complete completion, q *query, room int) (*packed, uint32, extendedError) {
	view, err := r.catalog.View()
	if err != nil {
		if q.below < 0 && !q.isReverse() {
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
	cache, cacheable := r.cacheOf(s, q)
	if cacheable {
		if p := cache.get(q, room); p != nil {
			return p, serial, why
		}
	}
	ask, err := q.question()
	if err != nil {
		return failure(dns.RcodeFormatError), serial, 0
	}
	if !cacheable && view.Partial {
		switch {
		case !r.mayLack(ask): // which may be true of a later view only
			view, err = r.catalog.View()
			s = view.Snapshot
		case complete == nil:
			return nil, serial, 0
		default:
			s, err = complete(&ask, nil)
		}
		if err != nil {
			return failure(dns.RcodeServerFailure), serial, notReady
		}
	}
	answer := r.zone.resolve(s, ask)
	if view.Partial {
		if s, answer, err = r.followAliases(complete, s, ask, answer); err != nil {
			return failure(dns.RcodeServerFailure), serial, notReady
		}
		if s == nil {
			return nil, serial, 0
		}
	}
	if view.Partial && answer.rcode == dns.RcodeNameError && ask.isBelowNode() {
		answer.rcode = dns.RcodeSuccess // there may be nodes below it that the view lacks (RFC 8020)
	}
	if cacheable && answer.service == cache.service {
		return cache.add(r.zone, s, q, ask, answer, room), serial, why
	}
	return r.zone.pack(s, ask, answer, room), serial, why
}

// followAliases reads from etcd what a partial view lacks of the names that an answer follows, and
// returns the answer with them, and the snapshot that it is of. That is nil where complete is nil and
// the view lacks one.
func (r *Responder) followAliases(complete completion, s *view.Snapshot, ask question, answer response) (*view.Snapshot, response, error) {
	for range maxAliases {
		if len(answer.followed) == 0 || r.catalog.Has(answer.followed...) {
			break
		}
		if complete == nil {
			return nil, answer, nil
		}
		completed, err := complete(&ask, answer.followed)
		if err != nil && len(answer.answer) > 0 && !r.zone.isAlias(answer.answer[0]) {
			break // it is what is known: the other names may be forbidden, or etcd away
		}
		if err != nil {
			return s, answer, err
		}
		s = completed
		answer = r.zone.resolve(s, ask)
	}
	return s, answer, nil
}

// completion reads from etcd what the view lacks for a question, or the scopes of the names that its
// answer follows, and returns the snapshot that has it. Names of services that the snapshot does not
// have it puts into the question.
type completion func(ask *question, followed []discovery.Scope) (*view.Snapshot, error)

// mayLack reports whether a partial view may lack what a question is about.
func (r *Responder) mayLack(ask question) bool {
	if !ask.inside {
		return false // reverse names are answered from what the view has
	}
	m, ok := parseName(ask.labels)
	return ok && m.name.Kind == discovery.NameBrowse || !r.catalog.Has(ask.scopes()...)
}

// completer returns a completion that ends with ctx.
func (r *Responder) completer(ctx context.Context) completion {
	return func(ask *question, followed []discovery.Scope) (*view.Snapshot, error) {
		var err error
		switch m, _ := parseName(ask.labels); {
		case len(followed) > 0:
			err = r.catalog.Ensure(ctx, followed...)
		case m.name.Kind == discovery.NameBrowse:
			ask.services, err = r.catalog.ServiceNames(ctx)
		default:
			err = r.catalog.Ensure(ctx, ask.scopes()...)
		}
		if err != nil {
			return nil, err
		}
		view, err := r.catalog.View()
		return view.Snapshot, err
	}
}

// isReverse reports whether the name is that of a reverse lookup.
func (q *query) isReverse() bool {
	if q.count < 2 || string(q.label(q.count-1)) != "arpa" {
		return false
	}
	under := string(q.label(q.count - 2))
	return under == "in-addr" || under == "ip6"
}
