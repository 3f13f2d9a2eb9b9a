package lookup

import (
	"slices"
	"strings"

	"disc/discovery"
	"disc/discovery/view"
)

// lookup is the state of one Lookup.
type lookup struct {
	query  *Query
	id     string // only this instance; empty: all
	answer Answer
}

// selectCandidates returns the entries to answer with, and excludes the others.
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
	l.answer.Panic = !l.asksForUnhealthy() && float64(healthy) < l.query.PanicThreshold*float64(up)
	return l.dropZeroWeights(l.dropUnhealthy(selected))
}

// asksForUnhealthy reports whether the query is for instances that are not to be used, of which
// a service should have few.
func (l *lookup) asksForUnhealthy() bool {
	return l.query.Status == discovery.StatusWarning || l.query.Status == discovery.StatusCritical
}

func (l *lookup) excludeLeaving(service *view.Service) {
	for i := range service.Leaving() {
		if l.id == "" || l.id == i.ID {
			l.exclude(&view.Entry{Instance: *i}, ExcludedLeaving)
		}
	}
}

func (l *lookup) excludedBy(e *view.Entry) string {
	if l.id != "" && e.ID != l.id {
		return ExcludedID
	}
	return l.query.Selector.Match(e)
}

// dropUnhealthy excludes the candidates that the status filter does not match, except, in
// a panic, those that are up.
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

// dropZeroWeights excludes the candidates of weight 0 unless there are no others.
func (l *lookup) dropZeroWeights(candidates []candidate) []candidate {
	weighted := slices.ContainsFunc(candidates, func(c candidate) bool { return c.Weight > 0 })
	if !weighted || l.query.Status == discovery.StatusAny {
		return candidates
	}
	return slices.DeleteFunc(candidates, func(c candidate) bool {
		if c.Weight == 0 {
			l.exclude(c.Entry, ExcludedWeight)
		}
		return c.Weight == 0
	})
}

func (l *lookup) exclude(e *view.Entry, why string) {
	if why != ExcludedID && why != ExcludedPick {
		if l.answer.LeftOut == nil {
			l.answer.LeftOut = map[string]int{}
		}
		l.answer.LeftOut[why]++
	}
	if l.query.Explain {
		l.answer.Explain = append(l.answer.Explain, Explanation{e.ID, false, explainExcluded(e, why)})
	}
}

// answerWith fills in the answer from the first candidates, up to the query's Pick.
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
		l.exclude(c.Entry, ExcludedPick)
	}
	slices.SortFunc(l.answer.Explain, func(a, b Explanation) int { return strings.Compare(a.ID, b.ID) })
}
