package discovery

import "iter"

// Keys yields every key that the snapshot was made of, with etcd's revision of its
// last write, in no order. What etcd lists differently has changed since.
func (s *Snapshot) Keys() iter.Seq2[Key, int64] {
	return func(yield func(Key, int64) bool) {
		for service := range s.Services() {
			for _, at := range service.slots {
				if !at.keys(FoldName(service.Name), yield) {
					return
				}
			}
		}
		for n := range s.Nodes() {
			if !yield(Key{Kind: KeyNode, Node: n.Node, ID: n.Agent}, n.modified) {
				return
			}
		}
	}
}

// keys yields the keys of a slot and reports whether to go on.
func (at *slot) keys(service string, yield func(Key, int64) bool) bool {
	if at.agent.Instance != nil && !yield(Key{Kind: KeyInstance, Service: service, ID: at.id}, at.agent.Modified) {
		return false
	}
	if at.static.Instance != nil && !yield(Key{Kind: KeyStatic, Service: service, ID: at.id}, at.static.Modified) {
		return false
	}
	return at.override == nil || yield(Key{Kind: KeyOverride, Service: service, ID: at.id}, at.override.modified)
}
