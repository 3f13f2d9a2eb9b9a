package dns

import (
	"encoding/binary"
	"maps"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"disc/discovery/view"
)

// Answers about a service are packed once for each revision of it, and lie in the
// service's memo, in several random orders. An order is made anew after a second, and
// a millisecond more for each record: at few queries nearly all answers are shuffled
// freshly, at many the work is the same as ever, and every instance of a large service
// has its turn in answers that have not room for all.
const (
	orders       = 16      // so many are kept of each answer
	ordersBytes  = 1 << 20 // or fewer, so that they do not take more than this
	orderTime    = time.Second
	recordTime   = time.Millisecond
	maxQuestions = 256 // about a service, whose answers are kept
)

// class says for which transports a packed answer is.
type class byte

const (
	whole class = iota // for all that it has room in
	plain              // cut for UDP without EDNS
	large              // cut for UDP with EDNS, of the size that most allow
	exact              // cut for one query, and not kept
)

func classOf(room int) class {
	switch room {
	case plainSize:
		return plain
	case ednsSize - optRoom:
		return large
	}
	return exact
}

// shelf is what is kept of one service at one revision.
type shelf struct {
	service *view.Service
	answers atomic.Pointer[map[string]*answers] // by key; copied on write
}

// answers is one answer in several orders, each made when it is first wanted.
type answers struct {
	orders []atomic.Pointer[packed]
}

// key is the key of a question's answers.
type key [maxNameWire + 3]byte

// write makes the key and returns it; types without records share one.
func (k *key) write(q *query, c class) []byte {
	qtype := q.qtype
	switch qtype {
	case dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeTXT, dns.TypePTR, dns.TypeCNAME, dns.TypeANY:
	default:
		qtype = dns.TypeNone
	}
	b := append(k[:0], q.name[:q.length]...)
	return append(binary.BigEndian.AppendUint16(b, qtype), byte(c))
}

// shelfOf finds the shelf of the service that a query is about; nil where its answer
// cannot be one that is kept.
func (r *Responder) shelfOf(s *view.Snapshot, q *query) *shelf {
	name := q.service()
	if name == nil {
		return nil
	}
	service, ok := s.Service(string(name))
	if !ok {
		return nil
	}
	return service.Memo(r.shelves, func() any {
		kept := &shelf{service: service}
		kept.answers.Store(&map[string]*answers{})
		return kept
	}).(*shelf)
}

// service returns the label that names the service which a query is about; nil if
// there is none or the answer is about one instance or node.
func (q *query) service() []byte {
	n := q.within - 1
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

// pick returns a kept answer with room for a query; nil where one is to be made.
func (h *shelf) pick(q *query, room int) *packed {
	if p := h.order(q, whole); p == nil || p.fits(q, room) {
		return p
	}
	if c := classOf(room); c != exact {
		return h.order(q, c)
	}
	return nil
}

func (h *shelf) order(q *query, c class) *packed {
	var k key
	a, ok := (*h.answers.Load())[string(k.write(q, c))]
	if !ok {
		return nil
	}
	p := a.at(q).Load()
	if p == nil || len(a.orders) > 1 && q.asked.After(p.until) {
		return nil
	}
	return p
}

// at is the order that the luck of a query has chosen.
func (a *answers) at(q *query) *atomic.Pointer[packed] {
	return &a.orders[q.luck%uint32(len(a.orders))]
}

// keep packs a response for a query, and keeps it for those that come after.
func (h *shelf) keep(z *zone, s *view.Snapshot, q *query, ask question, r response, room int) *packed {
	until := q.asked.Add(orderTime + time.Duration(len(r.answer))*recordTime)
	all := z.pack(s, ask, r, wholeSize-optRoom)
	all.until = until
	h.put(q, whole, all, r.orders(all))
	if all.fits(q, room) {
		return all
	}
	cut := z.pack(s, ask, r, room)
	cut.until = until
	if c := classOf(room); c != exact {
		h.put(q, c, cut, r.orders(all))
	}
	return cut
}

// orders returns how many orders of a response are worth keeping.
func (r *response) orders(p *packed) int {
	if len(r.answer) < 2 {
		return 1
	}
	return min(orders, max(2, ordersBytes/len(p.tail)))
}

// put keeps a packed answer in its place.
func (h *shelf) put(q *query, c class, p *packed, orders int) {
	var k key
	name := k.write(q, c)
	for {
		old := h.answers.Load()
		a, ok := (*old)[string(name)]
		if !ok {
			if len(*old) >= maxQuestions {
				return
			}
			a = &answers{orders: make([]atomic.Pointer[packed], orders)}
			next := maps.Clone(*old)
			next[string(name)] = a
			if !h.answers.CompareAndSwap(old, &next) {
				continue
			}
		}
		a.at(q).Store(p)
		return
	}
}
