package view

import "slices"

// Eligible returns the entries that [Lookup] answers with when a query asks for
// nothing but the service's name: the healthy ones, those of weight 0 only when nothing
// else is left, suspects after the others. They are sorted by id, not shuffled by weight;
// the choice among them is the caller's.
//
// It counts as a lookup, costs no allocation, and gives the same slice each time. The
// caller must not change the slice or what it points to.
//
//	if fit := service.Answering(); len(fit) > 0 {
//		e := fit[rand.IntN(len(fit))]
//		conn, err := net.Dial("tcp", net.JoinHostPort(e.Address, strconv.Itoa(e.Port)))
//	}
func (s *Service) Eligible() []*Entry {
	s.MarkUsed()
	return s.eligible
}

// eligible returns those of the entries that a plain lookup answers with, and the
// slice that it was given where these are all of them and in order.
func eligible(entries []*Entry) []*Entry {
	weighty := slices.ContainsFunc(entries, func(e *Entry) bool { return e.Healthy() && e.Weight > 0 })
	fits := func(e *Entry) bool { return e.Healthy() && (e.Weight > 0 || !weighty) }
	fit := 0
	for _, e := range entries {
		if fits(e) {
			fit++
		}
	}
	if fit == len(entries) && slices.IsSortedFunc(entries, suspectsLast) {
		return entries
	}
	chosen := make([]*Entry, 0, fit)
	for _, e := range entries {
		if fits(e) {
			chosen = append(chosen, e)
		}
	}
	slices.SortStableFunc(chosen, suspectsLast)
	return chosen
}

func suspectsLast(a, b *Entry) int {
	switch {
	case a.Suspect == b.Suspect:
		return 0
	case a.Suspect:
		return 1
	}
	return -1
}
