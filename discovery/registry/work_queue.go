package registry

import (
	"container/heap"
	"iter"
	"time"
)

// workQueue has the instances that need to be read or written, now or later. It is a heap by the time
// from which they do. An instance at rest is not in it, so that a reconciliation costs what there is
// to do, however many instances are registered.
type workQueue struct{ heap workHeap }

// set sets the time from which an instance needs work; zero: it needs none.
func (q *workQueue) set(d *desired, due time.Time) {
	d.due = due
	switch {
	case due.IsZero() && d.queued > 0:
		heap.Remove(&q.heap, d.queued-1)
	case due.IsZero():
	case d.queued > 0:
		heap.Fix(&q.heap, d.queued-1)
	default:
		heap.Push(&q.heap, d)
	}
}

// first returns the instance that needs work first; nil: none does.
func (q *workQueue) first() *desired {
	if len(q.heap) == 0 {
		return nil
	}
	return q.heap[0]
}

// dueBy yields the instances that need work by a time, in no order.
func (q *workQueue) dueBy(now time.Time) iter.Seq[*desired] {
	return func(yield func(*desired) bool) { q.heap.dueBy(now, 0, yield) }
}

// workHeap implements [heap.Interface].
type workHeap []*desired

func (h workHeap) Len() int           { return len(h) }
func (h workHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }

func (h workHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].queued, h[j].queued = i+1, j+1
}

func (h *workHeap) Push(x any) {
	d := x.(*desired)
	*h = append(*h, d)
	d.queued = len(*h)
}

func (h *workHeap) Pop() any {
	last := len(*h) - 1
	d := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	d.queued = 0
	return d
}

// dueBy yields what is due among the instance at index n and those below it, and reports whether to
// go on.
func (h workHeap) dueBy(now time.Time, n int, yield func(*desired) bool) bool {
	if n >= len(h) || h[n].due.After(now) {
		return true
	}
	return yield(h[n]) && h.dueBy(now, 2*n+1, yield) && h.dueBy(now, 2*n+2, yield)
}
