package view

import "slices"

// Eligible returns the entries that a lookup of the service's name alone answers with:
// the healthy ones, those of weight 0 only when there are no others, suspects last. They
// are sorted by id instead of shuffled by weight: the caller chooses among them.
//
// Eligible counts as a lookup. It allocates nothing and returns the same slice each time.
// The caller must not change the slice or its entries.
//
//	if entries := service.Eligible(); len(entries) > 0 {
//		e := entries[rand.IntN(len(entries))]
//		conn, err := net.Dial("tcp", net.JoinHostPort(e.Address, strconv.Itoa(e.Port)))
//	}
func (s *Service) Eligible() []*Entry {
	s.MarkUsed()
	return s.eligible
}

// eligible returns the entries that a lookup of the name alone answers with; the
// argument itself if these are all of them, in order.
func eligible(entries []*Entry) []*Entry {
	weighted := slices.ContainsFunc(entries, func(e *Entry) bool { return e.Healthy() && e.Weight > 0 })
	answered := func(e *Entry) bool { return e.Healthy() && (e.Weight > 0 || !weighted) }
	n := 0
	for _, e := range entries {
		if answered(e) {
			n++
		}
	}
	if n == len(entries) && slices.IsSortedFunc(entries, suspectsLast) {
		return entries
	}
	chosen := make([]*Entry, 0, n)
	for _, e := range entries {
		if answered(e) {
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
