package lookup

import (
	"container/heap"

	"disc/discovery"
)

// usesLoad reports whether load reports have a say in what is answered.
func (l *lookup) usesLoad() bool { return l.query.Pick > 0 && !l.query.NoLoad }

// pick moves those that are picked to the front of ordered candidates. Each is the
// less loaded of two (Mitzenmacher, 2001), which are drawn by weight out of the best tier
// that is left. One may be drawn twice, so that nobody is left out for good. What has not
// reported counts as the average of those that have; without reports the order stays.
func (l *lookup) pick(candidates []candidate) {
	if !l.usesLoad() {
		return
	}
	average, ok := meanLoad(candidates)
	if !ok {
		return
	}
	d := picker{lookup: l, average: average, remaining: candidateHeap(candidates)}
	for _, c := range candidates {
		d.shares[c.tier] += c.share()
	}
	picked := make([]candidate, min(l.query.Pick, len(candidates)))
	for n := range picked {
		picked[n] = d.next()
	}
	// The heap holds the rest, in the first part of what is its room.
	copy(candidates[len(picked):], d.remaining)
	copy(candidates, picked)
}

// meanLoad returns the average utilization of those that report one.
func meanLoad(candidates []candidate) (mean float64, ok bool) {
	n := 0.0
	for _, c := range candidates {
		if c.Utilization != nil {
			n++
			mean += (*c.Utilization - mean) / n
		}
	}
	return mean, n > 0
}

// picker picks candidates one after the other.
type picker struct {
	*lookup
	average   float64
	remaining candidateHeap
	shares    [4]float64 // of those that are left, by tier
}

// next takes the less loaded of two out of those that are left. The first two in their
// order are two draws without replacement: the second of two draws with replacement is
// the first again with a chance of the first's share.
func (d *picker) next() candidate {
	first := heap.Pop(&d.remaining).(candidate)
	twice := d.random()*d.shares[first.tier] < first.share()
	if !twice && len(d.remaining) > 0 && d.remaining[0].tier == first.tier {
		second := heap.Pop(&d.remaining).(candidate)
		if a, b := d.load(first), d.load(second); b < a && discovery.LoadDiffers(a, b) {
			first, second = second, first
		}
		// Exponential variates have no memory: a new wait from here on is a new draw.
		second.rank = max(first.rank, second.rank) + second.variate(d.random())
		heap.Push(&d.remaining, second)
	}
	d.shares[first.tier] -= first.share()
	return first
}

func (d *picker) load(c candidate) float64 {
	if c.Utilization == nil {
		return d.average
	}
	return *c.Utilization
}

// candidateHeap is a [heap.Interface] with the candidate that comes first on top.
type candidateHeap []candidate

func (w candidateHeap) Len() int           { return len(w) }
func (w candidateHeap) Less(a, b int) bool { return w[a].compare(w[b]) < 0 }
func (w candidateHeap) Swap(a, b int)      { w[a], w[b] = w[b], w[a] }
func (w *candidateHeap) Push(c any)        { *w = append(*w, c.(candidate)) }

func (w *candidateHeap) Pop() any {
	last := len(*w) - 1
	c := (*w)[last]
	*w = (*w)[:last]
	return c
}
