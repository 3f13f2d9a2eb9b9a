package view

import (
	"iter"

	"disc/discovery"
)

// Keys yields every key of the snapshot that is in etcd, with the revision of its last
// write, in no order. A key that etcd lists with another revision has changed since.
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

// yieldKeys yields the keys of an instance and reports whether to go on.
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

// Changes yields the changes that make the snapshot from an empty one, in no order, to
// store it. Missing instances become suspects. Load reports, empty services, and fields of
// records that this version does not know are left out.
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
			if !yield(Change{Key: discovery.Key{Kind: discovery.KeyNode, Node: n.Node.Node, ID: n.Agent}, Value: n.Encode(), Modified: n.modified, Lease: n.lease}) {
				return
			}
		}
	}
}

// yieldChanges yields the changes that make an instance and reports whether to go on.
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
