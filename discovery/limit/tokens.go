package limit

import (
	"cmp"
	"slices"
	"time"
)

// tokens are those that an agent has bought under the present policy and not used.
type tokens struct {
	batches []batch // the oldest first
	total   int64
}

// batch is n tokens of a purchase that was sent at a time. They are good for the policy's
// horizon from then on.
type batch struct {
	n      int64
	sentAt time.Duration
}

// add adds n tokens of a purchase that was sent at a time.
func (t *tokens) add(n int64, sentAt time.Duration) {
	at, _ := slices.BinarySearchFunc(t.batches, sentAt, func(b batch, s time.Duration) int { return cmp.Compare(b.sentAt, s) })
	t.batches = slices.Insert(t.batches, at, batch{n, sentAt})
	t.total += n
}

// dropSentBy drops the oldest batch and returns it, if its purchase was sent at a time or
// before.
func (t *tokens) dropSentBy(at time.Duration) (b batch, ok bool) {
	if len(t.batches) == 0 || t.batches[0].sentAt > at {
		return batch{}, false
	}
	b = t.batches[0]
	t.dropOldest()
	return b, true
}

func (t *tokens) dropOldest() {
	t.total -= t.batches[0].n
	t.batches = t.batches[1:]
}

// take takes n tokens, the oldest first, or none if there are fewer. sentAt is when the
// purchase of the first of them was sent.
func (t *tokens) take(n int64) (sentAt time.Duration, ok bool) {
	if t.total < n {
		return 0, false
	}
	sentAt = t.batches[0].sentAt
	for n >= t.batches[0].n {
		n -= t.batches[0].n
		t.dropOldest()
		if n == 0 {
			return sentAt, true
		}
	}
	t.batches[0].n -= n
	t.total -= n
	return sentAt, true
}

// clear drops all tokens.
func (t *tokens) clear() { *t = tokens{} }
