package limit

import (
	"slices"
	"time"
)

// tokens is what an agent has bought and not used: tokens, good until they are void.
type tokens struct {
	batches []batch // by the time that they are good until
	total   int64
}

type batch struct {
	n     int64
	until time.Duration
}

// add puts tokens into the hand.
func (h *tokens) add(n int64, until time.Duration) {
	at, _ := slices.BinarySearchFunc(h.batches, until, func(l batch, t time.Duration) int { return int(l.until - t) })
	h.batches = slices.Insert(h.batches, at, batch{n, until})
	h.total += n
}

// expire drops what is void.
func (h *tokens) expire(now time.Duration) {
	for len(h.batches) > 0 && h.batches[0].until <= now {
		h.dropOldest()
	}
}

func (h *tokens) dropOldest() {
	h.total -= h.batches[0].n
	h.batches = h.batches[1:]
}

// take takes n tokens, the oldest first, or none. What is given back is good until the
// first of them is void.
func (h *tokens) take(now time.Duration, n int64) (until time.Duration, ok bool) {
	h.expire(now)
	if h.total < n {
		return 0, false
	}
	until = h.batches[0].until
	for n >= h.batches[0].n {
		n -= h.batches[0].n
		h.dropOldest()
		if n == 0 {
			return until, true
		}
	}
	h.batches[0].n -= n
	h.total -= n
	return until, true
}

// clear drops everything.
func (h *tokens) clear() { *h = tokens{} }
