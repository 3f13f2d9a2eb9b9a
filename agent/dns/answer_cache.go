package dns

import (
	"encoding/binary"
	"time"

	"github.com/miekg/dns"

	"disc/agent/answercache"
	"disc/discovery/view"
)

// Answers about a service are packed once for each revision of the service, in several
// random orders. An order is replaced after a second, and a millisecond more for each
// record. At few queries nearly all answers are therefore shuffled freshly; at many the
// work stays the same; and where an answer has no room for all instances of a large
// service, each instance has its turn.
const (
	maxCacheBytes  = 1 << 20 // of all orders of an answer
	orderLifetime  = time.Second
	recordLifetime = time.Millisecond // more, for each record
)

// variant is the group of transports that an answer is packed for.
type variant byte

const (
	whole    variant = iota // for each query that has room for it
	plain                   // cut for UDP without EDNS
	edns1232                // cut for UDP with EDNS, of the size that most senders allow
	edns4096                // cut for a client on loopback, of sizes that are widespread there
	edns8192
	largest // cut for a client on loopback that offers what this host can send, or more
	single  // cut for one query, and not cached
)

func variantOf(room int) variant {
	switch room {
	case plainSize:
		return plain
	case ednsSize - optRoom:
		return edns1232
	case 4096 - optRoom:
		return edns4096
	case 8192 - optRoom:
		return edns8192
	case localSize - optRoom:
		return largest
	}
	return single
}

// serviceCache is the cached answers about one service at one revision.
type serviceCache struct {
	service *view.Service
	answers *answercache.ServiceCache[packed]
}

// cacheKey is room for the key of a question's answers.
type cacheKey [maxNameWire + 3]byte

// write writes the key of the answers to a query and returns it. All types that have
// no records share one key.
func (k *cacheKey) write(q *query, v variant) []byte {
	qtype := q.qtype
	switch qtype {
	case dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeTXT, dns.TypePTR, dns.TypeCNAME, dns.TypeANY:
	default:
		qtype = dns.TypeNone
	}
	b := append(k[:0], q.name[:q.length]...)
	return append(binary.BigEndian.AppendUint16(b, qtype), byte(v))
}

// cacheOf returns the cache of the service that a query is about. It reports false for
// a query whose answer is never cached.
func (r *Responder) cacheOf(s *view.Snapshot, q *query) (serviceCache, bool) {
	name := q.service()
	if name == nil {
		return serviceCache{}, false
	}
	service, ok := s.Service(string(name))
	if !ok {
		return serviceCache{}, false
	}
	return serviceCache{service, r.cache.Of(service)}, true
}

// service returns the label that names the service which a query is about; nil: it is
// about no service, or about one instance or node.
func (q *query) service() []byte {
	n := q.below - 1
	if n < 0 {
		return nil
	}
	last := q.label(n)
	if n > 0 {
		switch string(last) {
		case "inst", "node", "addr":
			return nil
		case "svc":
			n--
			last = q.label(n)
		}
	}
	if n > 0 && (string(last) == "_tcp" || string(last) == "_udp") {
		return q.label(n - 1)[1:]
	}
	return last
}

// get returns a cached answer that fits a query; nil: it has to be made.
func (c serviceCache) get(q *query, room int) *packed {
	if p := c.load(q, whole); p == nil || p.fits(q, room) {
		return p
	}
	if v := variantOf(room); v != single {
		return c.load(q, v)
	}
	return nil
}

// load returns the order that the query's random number picks; nil: it is not made, or
// out of date.
func (c serviceCache) load(q *query, v variant) *packed {
	var k cacheKey
	orders := c.answers.Get(k.write(q, v))
	if orders == nil {
		return nil
	}
	p := orders.Load(q.random)
	if p == nil || orders.Len() > 1 && q.received.After(p.expires) {
		return nil
	}
	return p
}

// add packs a response to a query, caches it, and returns what fits the query.
func (c serviceCache) add(z *zone, s *view.Snapshot, q *query, ask question, r response, room int) *packed {
	expires := q.received.Add(orderLifetime + time.Duration(len(r.answer))*recordLifetime)
	all := z.pack(s, ask, r, wholeSize-optRoom)
	all.expires = expires
	count := answercache.Count(len(r.answer), len(all.tail), maxCacheBytes)
	c.store(q, whole, all, count)
	if all.fits(q, room) {
		return all
	}
	cut := z.pack(s, ask, r, room)
	cut.expires = expires
	if v := variantOf(room); v != single {
		c.store(q, v, cut, count)
	}
	return cut
}

// store caches a packed answer as the order that the query's random number picks.
func (c serviceCache) store(q *query, v variant, p *packed, count int) {
	var k cacheKey
	if orders := c.answers.GetOrAdd(k.write(q, v), count); orders != nil {
		orders.Store(q.random, p)
	}
}
