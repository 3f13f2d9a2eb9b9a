package limit

import (
	"slices"
	"time"
)

// hand is what an agent has bought and not used: tokens, good until they are void.
type hand struct {
	lots  []lot // by the time that they are good until
	total int64
}

type lot struct {
	n     int64
	until time.Duration
}

// add puts tokens into the hand.
func (h *hand) add(n int64, until time.Duration) {
	at, _ := slices.BinarySearchFunc(h.lots, until, func(l lot, t time.Duration) int { return int(l.until - t) })
	h.lots = slices.Insert(h.lots, at, lot{n, until})
	h.total += n
}

// expire drops what is void.
func (h *hand) expire(now time.Duration) {
	for len(h.lots) > 0 && h.lots[0].until <= now {
		h.drop()
	}
}

func (h *hand) drop() {
	h.total -= h.lots[0].n
	h.lots = h.lots[1:]
}

// take takes n tokens, the oldest first, or none. What is given back is good until the
// first of them is void.
func (h *hand) take(now time.Duration, n int64) (until time.Duration, ok bool) {
	h.expire(now)
	if h.total < n {
		return 0, false
	}
	until = h.lots[0].until
	for n >= h.lots[0].n {
		n -= h.lots[0].n
		h.drop()
		if n == 0 {
			return until, true
		}
	}
	h.lots[0].n -= n
	h.total -= n
	return until, true
}

// clear drops everything.
func (h *hand) clear() { *h = hand{} }
