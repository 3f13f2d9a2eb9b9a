package lookup

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"

	"disc/discovery/view"
)

// candidate is an entry with its position in a weighted shuffle.
type candidate struct {
	*view.Entry
	tier int     // lower tiers come first
	rank float64 // lower ranks come first within a tier
}

// shuffle shuffles candidates by weight, the preferred zone first and suspects last.
//
// The method is that of Efraimidis and Spirakis (2006): sorting by an exponential variate
// divided by the weight is the same as drawing without replacement, each with a
// probability proportional to its weight.
func (l *lookup) shuffle(candidates []candidate) {
	for n := range candidates {
		c := &candidates[n]
		c.rank = c.variate(l.random())
		if l.query.PreferZone != "" && c.Zone != l.query.PreferZone {
			c.tier = 1
		}
		if c.Suspect {
			c.tier += 2
		}
	}
	slices.SortFunc(candidates, candidate.compare)
}

// random returns a number in [0, 1).
func (l *lookup) random() float64 {
	if l.query.Rand != nil {
		return l.query.Rand.Float64()
	}
	return rand.Float64()
}

// share returns the candidate's weight in a draw, which is above 0.
func (c candidate) share() float64 { return max(float64(c.Weight), 1e-9) }

// variate turns a uniform variate into an exponential one whose rate is the candidate's
// share.
func (c candidate) variate(uniform float64) float64 { return -math.Log(1-uniform) / c.share() }

func (c candidate) compare(other candidate) int {
	return cmp.Or(c.tier-other.tier, cmp.Compare(c.rank, other.rank))
}
