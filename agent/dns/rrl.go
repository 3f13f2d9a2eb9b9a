package dns

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// Response rate limiting (RRL), as Knot and NSD have it. The source address of a query over UDP
// may be forged, so that the answer goes to a victim (BCP 140). Of the answers that are longer
// than their query, each network of clients gets a number per second and kind. Beyond that the
// answers are truncated to the question, which is no longer than the query: a flood gains
// nothing, and real clients ask again over TCP, whose addresses cannot be forged. Every answer is
// truncated then and none is dropped (a "slip" of 1), since a client that gets none waits.
//
// An answer of nothing but the question, such as REFUSED, is no longer than its query and not
// limited. One with a SOA record (there is no such name, or no such record) is limited.

// MaxRateLimit is the greatest [Server.RateLimit], in answers per second.
const MaxRateLimit = 100_000

// The lengths of the prefixes of clients that share a limit, in bits.
const (
	rrlBits4 = 24
	rrlBits6 = 56
)

// rrlSlots is the number of limits that are known at once, 128 KiB of them. Where all that a
// network may use are taken by busier ones, it shares one.
const (
	rrlSlots = 1 << 14
	rrlWays  = 4 // slots that a network may use for a kind
)

// A slot has the network's tag in its upper bits, and below it the time up to which answers
// are accounted for (the theoretical arrival time of the generic cell rate algorithm), in
// units of rrlTick since the start: enough for half a year, after which it begins anew. An
// answer costs whole ticks, so that a limit lets through up to a tenth more at 100,000 a second,
// and less than a thousandth more at 1,000.
const (
	rrlTick     = time.Microsecond
	rrlTimeBits = 44
	rrlTimeMask = 1<<rrlTimeBits - 1
)

// rateLimiter limits answers. It is safe for use by many goroutines, and takes no lock.
type rateLimiter struct {
	seed  maphash.Seed
	start time.Time
	cost  uint64 // ticks for an answer
	burst uint64 // ticks: a second's answers
	slots [rrlSlots]atomic.Uint64
}

// newRateLimiter returns a limiter of a number of answers per second, 1 to [MaxRateLimit].
func newRateLimiter(perSecond int) *rateLimiter {
	second := uint64(time.Second / rrlTick)
	return &rateLimiter{seed: maphash.MakeSeed(), start: time.Now(), cost: max(second/uint64(perSecond), 1), burst: second}
}

// networkOf returns the bits of a client's network, whose members share a limit, and whether it
// is one of IPv4.
func networkOf(client netip.Addr) (bits uint64, is4 bool) {
	if client.Is4() || client.Is4In6() {
		b := client.As4()
		return uint64(binary.BigEndian.Uint32(b[:]) >> (32 - rrlBits4)), true
	}
	b := client.As16()
	return binary.BigEndian.Uint64(b[:]) >> (64 - rrlBits6), false
}

// allow takes an answer to a client out of its network's limit. It reports false if the limit is
// used up. rcode is the kind of answer.
func (l *rateLimiter) allow(client netip.Addr, rcode int, at time.Time) bool {
	network, is4 := networkOf(client)
	var key [9]byte
	binary.BigEndian.PutUint64(key[:], network)
	if is4 {
		key[8] |= 1
	}
	if rcode != dns.RcodeSuccess {
		key[8] |= 2
	}
	hash := maphash.Bytes(l.seed, key[:])
	now, tag := uint64(at.Sub(l.start)/rrlTick)&rrlTimeMask, hash>>rrlTimeBits
	first := int(hash % (rrlSlots / rrlWays) * rrlWays)
	for {
		slot, was := l.find(first, tag, now)
		due := was & rrlTimeMask
		if due < now || due > now+2*l.burst { // idle, or left from before the time began anew
			due = now
		}
		if due+l.cost > now+l.burst {
			return false
		}
		if slot.CompareAndSwap(was, tag<<rrlTimeBits|(due+l.cost)&rrlTimeMask) {
			return true
		}
	}
}

// find returns the slot of a network, or an idle one for it, or one that it shares.
func (l *rateLimiter) find(first int, tag, now uint64) (slot *atomic.Uint64, was uint64) {
	slots := l.slots[first : first+rrlWays]
	var idle *atomic.Uint64
	var idleWas uint64
	for n := range slots {
		v := slots[n].Load()
		if v>>rrlTimeBits == tag {
			return &slots[n], v
		}
		if due := v & rrlTimeMask; idle == nil && (due <= now || due > now+2*l.burst) {
			idle, idleWas = &slots[n], v
		}
	}
	if idle != nil {
		return idle, idleWas
	}
	shared := &slots[tag%rrlWays]
	return shared, shared.Load()
}
