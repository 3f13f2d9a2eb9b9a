package view

import (
	"iter"

	"disc/discovery"
)

// Keys yields every key that the snapshot was made of and that has not vanished, with etcd's revision of its
// last write, in no order. What etcd lists differently has changed since.
func (s *Snapshot) Keys() iter.Seq2[discovery.Key, int64] {
	return func(yield func(discovery.Key, int64) bool) {
		for service := range s.Services() {
			for _, at := range service.slots {
				if !at.keys(discovery.FoldName(service.Name), yield) {
					return
				}
			}
		}
		for n := range s.nodes.values() {
			if !yield(discovery.Key{Kind: discovery.KeyNode, Node: n.Node.Node, ID: n.Agent}, n.modified) {
				return
			}
		}
	}
}

// keys yields the keys of a slot and reports whether to go on.
func (at *slot) keys(service string, yield func(discovery.Key, int64) bool) bool {
	if at.stands() && !yield(discovery.Key{Kind: discovery.KeyInstance, Service: service, ID: at.id}, at.agent.Modified) {
		return false
	}
	if at.static.Instance != nil && !yield(discovery.Key{Kind: discovery.KeyStatic, Service: service, ID: at.id}, at.static.Modified) {
		return false
	}
	if at.override != nil && !yield(discovery.Key{Kind: discovery.KeyOverride, Service: service, ID: at.id}, at.override.modified) {
		return false
	}
	return at.load == nil || yield(discovery.Key{Kind: discovery.KeyLoad, Service: service, ID: at.id}, at.load.modified)
}

// Changes yields the changes that make the snapshot of an empty one, in no order: what
// there is to keep of it. Load reports are not: they age fast. What vanished and is kept is a suspect. Fields of records that
// this version does not know are not among it, and a service of which nothing is left
// neither.
func (s *Snapshot) Changes() iter.Seq[Change] {
	return func(yield func(Change) bool) {
		for service := range s.Services() {
			for _, at := range service.slots {
				if !at.changes(discovery.FoldName(service.Name), yield) {
					return
				}
			}
		}
		for n := range s.nodes.values() {
			if !yield(Change{Key: discovery.Key{Kind: discovery.KeyNode, Node: n.Node.Node, ID: n.Agent}, Value: n.Encode(), Modified: n.modified}) {
				return
			}
		}
	}
}

// changes yields those that make the slot, and reports whether to go on.
func (at *slot) changes(service string, yield func(Change) bool) bool {
	change := func(kind discovery.KeyKind, value []byte, r record) Change {
		return Change{Key: discovery.Key{Kind: kind, Service: service, ID: at.id}, Value: value, Created: r.Created, Modified: r.Modified, Lease: r.Lease}
	}
	if at.agent.Instance != nil {
		c := change(discovery.KeyInstance, at.agent.Encode(), at.agent)
		c.Suspect = !at.stands()
		if !yield(c) {
			return false
		}
	}
	if at.static.Instance != nil && !yield(change(discovery.KeyStatic, at.static.Encode(), at.static)) {
		return false
	}
	return at.override == nil || yield(change(discovery.KeyOverride, at.override.Encode(), record{Modified: at.override.modified}))
}
