package view

import (
	"iter"
	"slices"

	"disc/discovery"
)

// Snapshot is the immutable state of a namespace, or of a part of it, at one revision.
// Snapshots share the parts that did not change between them.
type Snapshot struct {
	revision int64
	step     int64 // changes at this revision that the view made by itself
	epoch    string
	services *persistentMap[*Service] // by folded name
	nodes    *persistentMap[*node]    // by nodeKey

	servicesRevision, nodesRevision int64 // of the last change of a service, of a node
	servicesStep                    int64 // of the last change of a service, at servicesRevision
}

// node is an agent's record, etcd's revision of it, and its lease.
type node struct {
	discovery.Node
	modified, lease int64
}

// nodeKey sorts the spellings of a node that differ only in case next to each other.
func nodeKey(node, agent string) string { return nodePrefix(node) + agent }

func nodePrefix(node string) string { return discovery.FoldName(node) + "/" + node + "/" }

// EmptySnapshot returns the snapshot without services and nodes.
func EmptySnapshot() *Snapshot {
	return &Snapshot{}
}

// Revision returns etcd's revision up to which the snapshot is complete.
func (s *Snapshot) Revision() int64 { return s.revision }

// ServicesRevision returns etcd's revision of the last change of any service.
func (s *Snapshot) ServicesRevision() int64 { return s.servicesRevision }

// ServicesIndex returns another number after each change of any service; see
// [Service.Index].
func (s *Snapshot) ServicesIndex() int64 { return index(s.servicesRevision, s.servicesStep) }

// NodesRevision returns etcd's revision of the last change of any node.
func (s *Snapshot) NodesRevision() int64 { return s.nodesRevision }

// Epoch returns the random id of the data of etcd that the revisions count; see
// [discovery.Keys.Epoch].
func (s *Snapshot) Epoch() string { return s.epoch }

// WithEpoch returns the snapshot with another epoch.
func (s *Snapshot) WithEpoch(epoch string) *Snapshot {
	if s.epoch == epoch {
		return s
	}
	next := *s
	next.epoch = epoch
	return &next
}

// RetainServices returns the snapshot with the services of other that it lacks, as empty
// services that changed at its revision, so that a lookup still knows them.
func (s *Snapshot) RetainServices(other *Snapshot) *Snapshot {
	next := *s
	for key, service := range other.services.all() {
		if _, ok := s.services.get(key); !ok {
			known := newService(service.Name)
			known.Revision = s.revision
			next.services = next.services.with(key, known)
		}
	}
	return &next
}

// Service returns a service by name, without regard to case.
func (s *Snapshot) Service(name string) (*Service, bool) {
	return s.services.get(discovery.FoldName(name))
}

// Services yields all services, sorted by name.
func (s *Snapshot) Services() iter.Seq[*Service] { return s.services.values() }

// Nodes yields all agents, sorted by node, without regard to case, and agent id.
func (s *Snapshot) Nodes() iter.Seq[*discovery.Node] { return yieldNodes(s.nodes.prefixed("")) }

// Node yields the agents on one node.
func (s *Snapshot) Node(name string) iter.Seq[*discovery.Node] {
	return yieldNodes(s.nodes.prefixed(nodePrefix(name)))
}

func yieldNodes(nodes iter.Seq2[string, *node]) iter.Seq[*discovery.Node] {
	return func(yield func(*discovery.Node) bool) {
		for _, n := range nodes {
			if !yield(&n.Node) {
				return
			}
		}
	}
}

// ResolveNode returns the agents on the node of that name. If there is no such node, it
// returns those on the only node whose name equals it without regard to case, because DNS
// resolvers mix the case of names.
func (s *Snapshot) ResolveNode(name string) []*discovery.Node {
	if exact := slices.Collect(s.Node(name)); len(exact) > 0 {
		return exact
	}
	var agents []*discovery.Node
	for _, n := range s.nodes.prefixed(discovery.FoldName(name) + "/") {
		agents = append(agents, &n.Node)
	}
	if slices.ContainsFunc(agents, func(n *discovery.Node) bool { return n.Node != agents[0].Node }) {
		return nil
	}
	return agents
}

// HasAgent reports whether an agent's own record, that of its node, is in etcd.
func (s *Snapshot) HasAgent(node, agent string) bool {
	_, ok := s.nodes.get(nodeKey(node, agent))
	return ok
}

// Len returns the number of services, instances shown and agents.
func (s *Snapshot) Len() (services, instances, nodes int) {
	for service := range s.Services() {
		instances += len(service.entries)
	}
	return s.services.len(), instances, s.nodes.len()
}

// ServiceCount returns the number of services, empty ones included.
func (s *Snapshot) ServiceCount() int { return s.services.len() }

// NodeCount returns the number of agents.
func (s *Snapshot) NodeCount() int { return s.nodes.len() }

// Cursor returns the snapshot's position: it includes all events up to there.
func (s *Snapshot) Cursor() discovery.Cursor {
	return discovery.Cursor{Epoch: s.epoch, Revision: s.revision, Step: s.step}
}
