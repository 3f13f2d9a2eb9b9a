package lookup

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"disc/discovery"
	"disc/discovery/view"
)

// lookup is one Lookup under way.
type lookup struct {
	query  *Query
	id     string // only this instance; empty: all
	answer Answer
}

// candidate is an entry with its place in a weighted shuffle.
type candidate struct {
	*view.Entry
	tier int     // lower tiers come first
	rank float64 // lower ranks come first within a tier
}

// selectCandidates returns the entries to answer with, and tells of the others why not.
func (l *lookup) selectCandidates(service *view.Service) []candidate {
	entries := service.Entries()
	if l.id != "" && !l.query.Explain {
		entries = entries[:0:0]
		if e, ok := service.Entry(l.id); ok {
			entries = []*view.Entry{e}
		}
	}
	l.excludeLeaving(service)
	up, healthy := 0, 0
	selected := make([]candidate, 0, len(entries))
	for _, e := range entries {
		if why := l.excludedBy(e); why != "" {
			l.exclude(e, why)
			continue
		}
		if e.State == discovery.Up {
			up++
			if e.ExcludedBy(l.query.Status) == "" {
				healthy++
			}
		}
		selected = append(selected, candidate{Entry: e})
	}
	l.answer.Panic = float64(healthy) < l.query.Panic*float64(up)
	return l.dropZeroWeights(l.dropUnhealthy(selected))
}

func (l *lookup) excludeLeaving(service *view.Service) {
	for i := range service.Leaving() {
		if l.id == "" || l.id == i.ID {
			l.exclude(&view.Entry{Instance: *i}, OutLeaving)
		}
	}
}

func (l *lookup) excludedBy(e *view.Entry) string {
	if l.id != "" && e.ID != l.id {
		return OutID
	}
	return l.query.Selector.Match(e)
}

// dropUnhealthy leaves out what the status filter does not want, but for what a panic
// lets through.
func (l *lookup) dropUnhealthy(selected []candidate) []candidate {
	return slices.DeleteFunc(selected, func(c candidate) bool {
		why := c.ExcludedBy(l.query.Status)
		if why == "" || l.answer.Panic && c.State == discovery.Up {
			return false
		}
		l.exclude(c.Entry, why)
		return true
	})
}

// dropZeroWeights leaves out the entries of weight 0 unless they are all there is.
func (l *lookup) dropZeroWeights(fit []candidate) []candidate {
	weighty := slices.ContainsFunc(fit, func(c candidate) bool { return c.Weight > 0 })
	if !weighty || l.query.Status == discovery.StatusAny {
		return fit
	}
	return slices.DeleteFunc(fit, func(c candidate) bool {
		if c.Weight == 0 {
			l.exclude(c.Entry, OutWeight)
		}
		return c.Weight == 0
	})
}

func (l *lookup) exclude(e *view.Entry, why string) {
	if why != OutID && why != OutPick {
		if l.answer.LeftOut == nil {
			l.answer.LeftOut = map[string]int{}
		}
		l.answer.LeftOut[why]++
	}
	if l.query.Explain {
		l.answer.Explain = append(l.answer.Explain, Explanation{e.ID, false, explainExcluded(why)})
	}
}

// shuffle shuffles candidates by weight, the preferred zone first and suspects last.
//
// The shuffle is that of Efraimidis and Spirakis (2006): sorting by an exponential
// variate divided by the weight draws without replacement, each draw with chances
// proportional to the weights that are left.
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

// random returns a number of at least 0 and below 1.
func (l *lookup) random() float64 {
	if l.query.Rand != nil {
		return l.query.Rand.Float64()
	}
	return rand.Float64()
}

// share is a candidate's part in a draw.
func (c candidate) share() float64 { return max(float64(c.Weight), 1e-9) }

// variate makes an exponential variate of a uniform one: how long a candidate lets wait for
// it, the shorter the higher its weight.
func (c candidate) variate(uniform float64) float64 { return -math.Log(1-uniform) / c.share() }

func (c candidate) compare(other candidate) int {
	return cmp.Or(c.tier-other.tier, cmp.Compare(c.rank, other.rank))
}

// answerWith answers with the first of the candidates, as many as are to be picked.
func (l *lookup) answerWith(candidates []candidate) {
	picked := len(candidates)
	if l.query.Pick > 0 {
		picked = min(picked, l.query.Pick)
	}
	l.answer.Endpoints = make([]discovery.Endpoint, picked)
	for n, c := range candidates[:picked] {
		l.answer.Endpoints[n] = c.EndpointAt(l.query.Port)
		if l.usesLoad() {
			l.answer.Endpoints[n].Utilization = c.Utilization
		}
		if l.query.Explain {
			l.answer.Explain = append(l.answer.Explain, Explanation{c.ID, true, l.explainIncluded(c.Entry)})
		}
	}
	for _, c := range candidates[picked:] {
		l.exclude(c.Entry, OutPick)
	}
	slices.SortFunc(l.answer.Explain, func(a, b Explanation) int { return strings.Compare(a.ID, b.ID) })
}
