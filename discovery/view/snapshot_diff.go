package view

import (
	"iter"
	"slices"
)

// ChangedSince yields the instances of which the snapshot has another record, static entry,
// override or load report than another has, by the folded name of the service and the id. Instances
// that only one of them has are among them, and some may be that were written anew as they were.
// Where one snapshot was made from the other, the cost depends on the size of the changed services,
// not of the catalog.
func (s *Snapshot) ChangedSince(before *Snapshot) iter.Seq2[string, string] {
	return func(yield func(service, id string) bool) {
		s.services.diff(before.services, func(name string, now, then *Service) bool {
			return diffInstances(now.allInstances(), then.allInstances(), func(id string) bool { return yield(name, id) })
		})
	}
}

// allInstances returns the instances, sorted by id; a nil service has none.
func (s *Service) allInstances() []*mergedInstance {
	if s == nil {
		return nil
	}
	return s.instances
}

// diffInstances yields the ids of the instances that differ between two lists, and reports whether
// to go on.
func diffInstances(a, b []*mergedInstance, yield func(id string) bool) bool {
	for len(a) > 0 && len(b) > 0 {
		x, y := a[0], b[0]
		switch {
		case x == y: // the most, by far
			a, b = a[1:], b[1:]
			continue
		case x.id < y.id:
			a = a[1:]
		case y.id < x.id:
			x, b = y, b[1:]
		default:
			a, b = a[1:], b[1:]
		}
		if !yield(x.id) {
			return false
		}
	}
	for _, x := range slices.Concat(a, b) { // one of them is empty
		if !yield(x.id) {
			return false
		}
	}
	return true
}
