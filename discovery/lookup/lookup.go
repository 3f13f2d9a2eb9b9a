package lookup

import (
	"cmp"
	"math/rand/v2"
	"slices"

	"disc/discovery"
	"disc/discovery/view"
)

// Query is a lookup. Each field but Name is optional.
type Query struct {
	Name   string // see [discovery.ParseName]; a service of exactly this name takes precedence
	Domain string // the DNS suffix that Name may end in

	// StrictName parses Name by the grammar of [discovery.ParseName] alone, as DNS does: a
	// service of exactly that name takes no precedence.
	StrictName bool

	Selector
	Status         discovery.StatusFilter
	PreferZone     string  // entries of this zone first, the others as spill-over
	Pick           int     // this many endpoints, chosen by weight and load, 1 to 65536; 0: all
	PanicThreshold float64 // 0 to 1: if less than this fraction of the selected entries that are up is healthy, answer with all that are up
	Explain        bool    // explain each entry
	NoLoad         bool    // ignore load reports: the view is older than [discovery.LoadReportTTL]

	// Rand shuffles the answer; nil: math/rand/v2's global source.
	Rand *rand.Rand
}

// Validate returns an [discovery.ErrInvalid] that names the first option that is wrong.
func (q *Query) Validate() error {
	switch q.Status {
	case discovery.StatusHealthy, discovery.StatusPassing, discovery.StatusWarning, discovery.StatusCritical, discovery.StatusAny:
	default:
		return discovery.Errorf(discovery.ErrInvalid, "status %q is unknown; use passing, warning, critical or any, or leave it out for all that are not critical", string(q.Status))
	}
	if q.Pick < 0 || q.Pick > 1<<16 {
		return discovery.Errorf(discovery.ErrInvalid, "pick %d is out of range; use 1 to 65536", q.Pick)
	}
	if !(q.PanicThreshold >= 0 && q.PanicThreshold <= 1) {
		return discovery.Errorf(discovery.ErrInvalid, "panic %v is out of range; use 0 to 1", q.PanicThreshold)
	}
	return nil
}

// Answer is the result of a lookup.
type Answer struct {
	Name      string               `json:"name"`              // as in the query
	Service   string               `json:"service,omitempty"` // in the spelling of its registrants
	Revision  int64                `json:"revision"`          // etcd's, of the last change of the service; for a node, of any node
	Endpoints []discovery.Endpoint `json:"endpoints"`
	LeftOut   map[string]int       `json:"left_out,omitempty"` // number of excluded entries by reason
	Index     int64                `json:"-"`                  // differs after each change of the service, or of any node; for ?index=
	Panic     bool                 `json:"panic,omitempty"`    // too few were healthy: all that are up are answered
	Explain   []Explanation        `json:"explain,omitempty"`
	Answered  *Answered            `json:"answered,omitempty"` // by whoever looked up in a view, with Explain
}

// Lookup answers a query from a snapshot. It returns an [discovery.ErrNotFound] for an
// unknown name, and an [discovery.ErrInvalid] for a query or a name that is not valid. A
// known service without a healthy instance is an empty answer that counts what was left
// out.
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

// resolve finds the service or the node that a query names.
func resolve(s *view.Snapshot, q *Query) (discovery.Name, *view.Service, error) {
	if service, ok := s.Service(q.Name); ok && !q.StrictName {
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

// lookupNode answers with the addresses of a node's agents. The options of a query do not
// apply to nodes.
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
