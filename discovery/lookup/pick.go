package lookup

import (
	"container/heap"

	"disc/discovery"
)

// usesLoad reports whether load reports influence the answer.
func (l *lookup) usesLoad() bool { return l.query.Pick > 0 && !l.query.NoLoad }

// pick moves the picked candidates to the front of the shuffled ones. Each is the less
// loaded of two (the power of two choices; Mitzenmacher, 2001), which are drawn by weight
// from the best tier that is left. One may be drawn twice, so that even the most loaded is
// picked at times. A candidate without a report counts as the average of the others;
// without any report the order stays.
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
	// The heap has the rest, in the first part of the slice.
	copy(candidates[len(picked):], d.remaining)
	copy(candidates, picked)
}

// meanLoad returns the average utilization of the candidates that report one; false: none
// does.
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

// picker picks candidates one by one.
type picker struct {
	*lookup
	average   float64
	remaining candidateHeap
	shares    [4]float64 // sum of the remaining candidates, by tier
}

// next removes and returns the less loaded of two of the remaining candidates. The
// heap's first two are draws without replacement. To draw with replacement, the second is
// the first again, with the probability of its share.
func (d *picker) next() candidate {
	first := heap.Pop(&d.remaining).(candidate)
	twice := d.random()*d.shares[first.tier] < first.share()
	if !twice && len(d.remaining) > 0 && d.remaining[0].tier == first.tier {
		second := heap.Pop(&d.remaining).(candidate)
		if a, b := d.load(first), d.load(second); b < a && discovery.LoadDiffers(a, b) {
			first, second = second, first
		}
		// Exponential variates are memoryless: adding a new one makes a new draw.
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

// candidateHeap implements [heap.Interface], with the first candidate on top.
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
