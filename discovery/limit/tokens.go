package limit

import (
	"slices"
	"time"
)

// tokens are those that an agent has bought and not used, until they are void.
type tokens struct {
	batches []batch // by expiry
	total   int64
}

// batch is n tokens that are good until the same time.
type batch struct {
	n     int64
	until time.Duration
}

// add adds n tokens that are good until a time.
func (t *tokens) add(n int64, until time.Duration) {
	at, _ := slices.BinarySearchFunc(t.batches, until, func(b batch, u time.Duration) int { return int(b.until - u) })
	t.batches = slices.Insert(t.batches, at, batch{n, until})
	t.total += n
}

// expire drops the tokens that are void.
func (t *tokens) expire(now time.Duration) {
	for len(t.batches) > 0 && t.batches[0].until <= now {
		t.dropOldest()
	}
}

func (t *tokens) dropOldest() {
	t.total -= t.batches[0].n
	t.batches = t.batches[1:]
}

// take takes n tokens, the oldest first, or none if there are fewer. until is when the
// first of them is void; a refund must not be good for longer.
func (t *tokens) take(now time.Duration, n int64) (until time.Duration, ok bool) {
	t.expire(now)
	if t.total < n {
		return 0, false
	}
	until = t.batches[0].until
	for n >= t.batches[0].n {
		n -= t.batches[0].n
		t.dropOldest()
		if n == 0 {
			return until, true
		}
	}
	t.batches[0].n -= n
	t.total -= n
	return until, true
}

// clear drops all tokens.
func (t *tokens) clear() { *t = tokens{} }
