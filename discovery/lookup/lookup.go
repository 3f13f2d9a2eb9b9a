package lookup

import (
	"cmp"
	"math/rand/v2"
	"slices"

	"disc/discovery"
	"disc/discovery/view"
)

// Query is a lookup. The zero value of each field but Name asks for nothing special.
type Query struct {
	Name   string // as [ParseName] reads it; an exact service name comes first
	Domain string // the DNS suffix that Name may have

	// Grammar reads Name by the grammar of [ParseName] alone, as DNS does: no exact
	// service name comes first.
	Grammar bool

	Selector
	Status     discovery.StatusFilter
	PreferZone string  // entries of this zone first, the rest as spill-over
	Pick       int     // this many endpoints by a choice weighted by weight and load; 0: all
	Panic      float64 // 0 to 1: when a smaller part of the selected entries that are up is healthy, answer all of them
	Explain    bool    // say of each entry why it is in or out
	NoLoad     bool    // load reports do not count: the view is older than [LoadLasts]

	// Rand orders the answer; nil: the runtime's source.
	Rand *rand.Rand
}

// Validate returns an [ErrInvalid] naming what is wrong with the query's options.
func (q *Query) Validate() error {
	switch q.Status {
	case discovery.StatusHealthy, discovery.StatusPassing, discovery.StatusAny:
	default:
		return discovery.Errorf(discovery.ErrInvalid, "status %q is unknown; use passing or any, or leave it out for all that are not critical", string(q.Status))
	}
	if q.Pick < 0 || q.Pick > 1<<16 {
		return discovery.Errorf(discovery.ErrInvalid, "pick %d is out of range; use 1 to 65536", q.Pick)
	}
	if !(q.Panic >= 0 && q.Panic <= 1) {
		return discovery.Errorf(discovery.ErrInvalid, "panic %v is out of range; use 0 to 1", q.Panic)
	}
	return nil
}

// Answer is what a lookup gives.
type Answer struct {
	Name      string               `json:"name"`              // as asked
	Service   string               `json:"service,omitempty"` // as its registrants spell it
	Revision  int64                `json:"revision"`          // of the last change of the service, or of any node for a node's name
	Endpoints []discovery.Endpoint `json:"endpoints"`
	LeftOut   map[string]int       `json:"left_out,omitempty"` // why, and how many
	Index     int64                `json:"-"`                  // another after each change of what Revision is of
	Panic     bool                 `json:"panic,omitempty"`    // too few were healthy: all are answered
	Explain   []Explanation        `json:"explain,omitempty"`
}

// Lookup answers a query from a snapshot. A name that nothing is known of is an
// [ErrNotFound]; a known service without a healthy instance is an empty answer that
// says what was left out.
func Lookup(s *view.Snapshot, q Query) (Answer, error) {
	if err := q.Validate(); err != nil {
		return Answer{}, err
	}
	name, service, err := resolve(s, &q)
	if err != nil {
		return Answer{}, err
	}
	if name.Kind == discovery.NameNode {
		return lookupNode(s, q.Name, name.Node)
	}
	if name.Tag != "" {
		q.Tags = append(slices.Clip(q.Tags), name.Tag)
	}
	q.Port = cmp.Or(name.Port, q.Port)
	service.MarkUsed()
	l := lookup{query: &q, id: name.ID, answer: Answer{Name: q.Name, Service: service.Name, Revision: service.Revision, Index: service.Index()}}
	candidates := l.selectCandidates(service)
	l.shuffle(candidates)
	l.pick(candidates)
	l.answerWith(candidates)
	return l.answer, nil
}

// resolve finds what a name means in a snapshot.
func resolve(s *view.Snapshot, q *Query) (discovery.Name, *view.Service, error) {
	if service, ok := s.Service(q.Name); ok && !q.Grammar {
		return discovery.Name{Service: q.Name}, service, nil
	}
	name, err := discovery.ParseName(q.Name, q.Domain)
	if err != nil {
		return discovery.Name{}, nil, err
	}
	switch name.Kind {
	case discovery.NameNode:
		return name, nil, nil
	case discovery.NameBrowse:
		return discovery.Name{}, nil, discovery.Errorf(discovery.ErrInvalid, "lookup name %q lists services and has no endpoints; ask /v1/services, or DNS for its PTR records", q.Name)
	}
	service, ok := s.Service(name.Service)
	if !ok {
		return discovery.Name{}, nil, discovery.Errorf(discovery.ErrNotFound, "service %q is not known; see 'disc list'", name.Service)
	}
	if name.Kind == discovery.NameInstance {
		id, ok := service.ResolveID(name.ID)
		if !ok {
			return discovery.Name{}, nil, discovery.Errorf(discovery.ErrNotFound, "instance %q of service %q is not known; see 'disc list %s'", name.ID, name.Service, name.Service)
		}
		name.ID = id
	}
	return name, service, nil
}

// lookupNode answers with the addresses of a node's agents. What a query asks of
// instances does not apply to nodes.
func lookupNode(s *view.Snapshot, asked, node string) (Answer, error) {
	a := Answer{Name: asked, Revision: s.NodesRevision(), Index: s.NodesRevision(), Endpoints: []discovery.Endpoint{}}
	for _, n := range s.ResolveNode(node) {
		if n.Address != "" {
			a.Endpoints = append(a.Endpoints, discovery.Endpoint{ID: n.Agent, Node: n.Node, Address: n.Address, Zone: n.Zone, Weight: 1, Status: discovery.Passing})
		}
	}
	if len(a.Endpoints) == 0 {
		return Answer{}, discovery.Errorf(discovery.ErrNotFound, "node %q is not known; see /v1/nodes", node)
	}
	return a, nil
}
