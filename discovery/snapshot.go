package discovery

import (
	"iter"
	"slices"
	"strings"
	"time"

	iradix "github.com/hashicorp/go-immutable-radix/v2"
)

// Source says who stands behind an entry.
type Source string

// The sources.
const (
	SourceAgent  Source = "agent"  // a record under its agent's lease
	SourceStatic Source = "static" // a static entry
)

// Entry is an instance as it is shown: its record or static entry, merged with its
// override.
type Entry struct {
	Instance
	State    State     `json:"state"`
	Override *Override `json:"override,omitempty"`
	Source   Source    `json:"source"`
	Revision int64     `json:"revision"`           // etcd's, of the newest key merged here
	Shadowed *Instance `json:"shadowed,omitempty"` // the static entry that the record hides
	Suspect  bool      `json:"suspect,omitempty"`  // vanished with many others; kept until a probe fails
}

// Record is an instance as it stands in etcd under one key.
type Record struct {
	Instance
	Created  int64 // etcd's create revision: changes with each incarnation
	Modified int64 // etcd's revision of the last write
	Lease    int64 // 0: none
}

// slot is all that etcd holds of one instance id: one to three keys.
type slot struct {
	id       string
	agent    *Record
	static   *Record
	override *override
	entry    *Entry // the merge of the above; nil when nothing of it is shown
}

type override struct {
	Override
	modified int64
}

// Service is a service at one revision. It is immutable.
type Service struct {
	// Name is the service's name as its registrants spell it.
	Name string
	// Revision is etcd's revision of the last change of anything under the service.
	Revision int64

	slots   []*slot  // sorted by id
	entries []*Entry // sorted by id: the slots that are shown
	leaving int      // records that say goodbye
}

// Entries returns the instances that are shown, sorted by id. The caller must not
// change the slice or what it points to.
func (s *Service) Entries() []*Entry { return s.entries }

// Entry returns the instance with an id, as it is shown.
func (s *Service) Entry(id string) (*Entry, bool) {
	if n, ok := slices.BinarySearchFunc(s.entries, id, func(e *Entry, id string) int { return strings.Compare(e.ID, id) }); ok {
		return s.entries[n], true
	}
	return nil, false
}

// Record returns an agent's record as it stands in etcd, even one that is leaving.
func (s *Service) Record(id string) (*Record, bool) {
	if at := s.slot(id); at != nil && at.agent != nil {
		return at.agent, true
	}
	return nil, false
}

// Empty reports whether nothing of the service is left in etcd. Such a service is
// remembered for a while, so that a lookup can tell it from one that never was.
func (s *Service) Empty() bool { return len(s.slots) == 0 }

// Healthy returns how many instances a plain lookup may answer with.
func (s *Service) Healthy() int {
	n := 0
	for _, e := range s.entries {
		if e.Status != Critical && e.State == Up {
			n++
		}
	}
	return n
}

// Tags returns all tags of the service's instances, sorted.
func (s *Service) Tags() Tags {
	var all Tags
	for _, e := range s.entries {
		all = append(all, e.Tags...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (s *Service) slot(id string) *slot {
	if n, ok := s.find(id); ok {
		return s.slots[n]
	}
	return nil
}

func (s *Service) find(id string) (int, bool) {
	return slices.BinarySearchFunc(s.slots, id, func(at *slot, id string) int { return strings.Compare(at.id, id) })
}

// Snapshot is an immutable catalog at one revision. Snapshots share what did not
// change between them.
type Snapshot struct {
	revision int64
	epoch    string
	services *iradix.Tree[*Service] // by folded name
	nodes    *iradix.Tree[*Node]    // by "<node>/<agent>"
}

// EmptySnapshot returns the snapshot that knows nothing.
func EmptySnapshot() *Snapshot {
	return &Snapshot{services: iradix.New[*Service](), nodes: iradix.New[*Node]()}
}

// Revision is etcd's revision up to which the snapshot is complete.
func (s *Snapshot) Revision() int64 { return s.revision }

// Epoch is the random id of the etcd's life that the revisions belong to.
func (s *Snapshot) Epoch() string { return s.epoch }

// WithEpoch returns the same snapshot under another epoch.
func (s *Snapshot) WithEpoch(epoch string) *Snapshot {
	next := *s
	next.epoch = epoch
	return &next
}

// Service returns a service by name, without regard to case.
func (s *Snapshot) Service(name string) (*Service, bool) {
	return s.services.Get([]byte(FoldName(name)))
}

// Services yields all services, sorted by name.
func (s *Snapshot) Services() iter.Seq[*Service] { return values(s.services) }

// Nodes yields all agents, sorted by node and agent id.
func (s *Snapshot) Nodes() iter.Seq[*Node] { return values(s.nodes) }

// Node yields the agents on one node.
func (s *Snapshot) Node(name string) iter.Seq[*Node] {
	return func(yield func(*Node) bool) {
		s.nodes.Root().WalkPrefix([]byte(name+"/"), func(_ []byte, n *Node) bool { return !yield(n) })
	}
}

// HasAgent reports whether an agent's own record is there.
func (s *Snapshot) HasAgent(node, agent string) bool {
	_, ok := s.nodes.Get([]byte(node + "/" + agent))
	return ok
}

// Len returns the number of services, instances shown and agents.
func (s *Snapshot) Len() (services, instances, nodes int) {
	for service := range s.Services() {
		instances += len(service.entries)
	}
	return s.services.Len(), instances, s.nodes.Len()
}

func values[T any](tree *iradix.Tree[T]) iter.Seq[T] {
	return func(yield func(T) bool) {
		tree.Root().Walk(func(_ []byte, v T) bool { return !yield(v) })
	}
}

// View is a snapshot and how sure it is.
type View struct {
	Snapshot *Snapshot
	Age      time.Duration // since etcd last confirmed that the snapshot was current
	Stale    bool          // Age is above the threshold
}
