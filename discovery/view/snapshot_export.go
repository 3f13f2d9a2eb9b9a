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
			for _, m := range service.instances {
				if !m.yieldKeys(discovery.FoldName(service.Name), yield) {
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

// yieldKeys yields the keys of a slot and reports whether to go on.
func (m *mergedInstance) yieldKeys(service string, yield func(discovery.Key, int64) bool) bool {
	if m.inEtcd() && !yield(discovery.Key{Kind: discovery.KeyInstance, Service: service, ID: m.id}, m.agent.Modified) {
		return false
	}
	if m.static.Instance != nil && !yield(discovery.Key{Kind: discovery.KeyStatic, Service: service, ID: m.id}, m.static.Modified) {
		return false
	}
	if m.override != nil && !yield(discovery.Key{Kind: discovery.KeyOverride, Service: service, ID: m.id}, m.override.modified) {
		return false
	}
	return m.load == nil || yield(discovery.Key{Kind: discovery.KeyLoad, Service: service, ID: m.id}, m.load.modified)
}

// Changes yields the changes that make the snapshot of an empty one, in no order: what
// there is to keep of it. Load reports are not: they age fast. What vanished and is kept is a suspect. Fields of records that
// this version does not know are not among it, and a service of which nothing is left
// neither.
func (s *Snapshot) Changes() iter.Seq[Change] {
	return func(yield func(Change) bool) {
		for service := range s.Services() {
			for _, m := range service.instances {
				if !m.yieldChanges(discovery.FoldName(service.Name), yield) {
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

// yieldChanges yields those that make the slot, and reports whether to go on.
func (m *mergedInstance) yieldChanges(service string, yield func(Change) bool) bool {
	change := func(kind discovery.KeyKind, value []byte, r record) Change {
		return Change{Key: discovery.Key{Kind: kind, Service: service, ID: m.id}, Value: value, Created: r.Created, Modified: r.Modified, Lease: r.Lease}
	}
	if m.agent.Instance != nil {
		c := change(discovery.KeyInstance, m.agent.Encode(), m.agent)
		c.Suspect = !m.inEtcd()
		if !yield(c) {
			return false
		}
	}
	if m.static.Instance != nil && !yield(change(discovery.KeyStatic, m.static.Encode(), m.static)) {
		return false
	}
	return m.override == nil || yield(change(discovery.KeyOverride, m.override.Encode(), record{Modified: m.override.modified}))
}
