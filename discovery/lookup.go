package discovery

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
)

// StatusFilter says which statuses a lookup answers with.
type StatusFilter string

// The status filters.
const (
	StatusHealthy StatusFilter = ""        // not critical, state up
	StatusPassing StatusFilter = "passing" // passing, state up
	StatusAny     StatusFilter = "any"     // all but state down
)

// Query is a lookup. The zero value of each field but Name asks for nothing special.
type Query struct {
	Name   string // as [ParseName] reads it; an exact service name comes first
	Domain string // the DNS suffix that Name may have

	Selector
	Status     StatusFilter
	PreferZone string  // entries of this zone first, the rest as spill-over
	Pick       int     // this many endpoints by weighted choice; 0: all
	Panic      float64 // 0 to 1: when a smaller part of the entries that are up is healthy, answer all of them
	Explain    bool    // say of each entry why it is in or out

	// Rand orders the answer; nil: the runtime's source.
	Rand *rand.Rand
}

// Validate returns an [ErrInvalid] naming what is wrong with the query's options.
func (q *Query) Validate() error {
	switch q.Status {
	case StatusHealthy, StatusPassing, StatusAny:
	default:
		return Errorf(ErrInvalid, "status %q is unknown; use passing or any, or leave it out for all that are not critical", string(q.Status))
	}
	if q.Pick < 0 || q.Pick > 1<<16 {
		return Errorf(ErrInvalid, "pick %d is out of range; use 1 to 65536", q.Pick)
	}
	if !(q.Panic >= 0 && q.Panic <= 1) {
		return Errorf(ErrInvalid, "panic %v is out of range; use 0 to 1", q.Panic)
	}
	return nil
}

// Endpoint is an instance as an answer to a lookup.
type Endpoint struct {
	ID      string `json:"id"`
	Node    string `json:"node,omitempty"`
	Address string `json:"address"`
	Port    int    `json:"port"` // the named port, where one was asked for
	Ports   Ports  `json:"ports"`
	Zone    string `json:"zone,omitempty"`
	Weight  int    `json:"weight"`
	Tags    Tags   `json:"tags"`
	Meta    Meta   `json:"meta"`
	Status  Status `json:"status"`
	State   State  `json:"state,omitempty"` // only when it is not up
	Suspect bool   `json:"suspect,omitempty"`
}

// Answer is what a lookup gives.
type Answer struct {
	Name      string         `json:"name"`              // as asked
	Service   string         `json:"service,omitempty"` // as its registrants spell it
	Revision  int64          `json:"revision"`          // of the service's last change
	Endpoints []Endpoint     `json:"endpoints"`
	LeftOut   map[string]int `json:"left_out,omitempty"` // why, and how many
	Panic     bool           `json:"panic,omitempty"`    // too few were healthy: all are answered
	Explain   []Explanation  `json:"explain,omitempty"`
}

// Explanation says why an entry is in an answer or not.
type Explanation struct {
	ID  string `json:"id"`
	In  bool   `json:"in"`
	Why string `json:"why"`
}

// The reasons for leaving an entry out, as [Answer.LeftOut] counts them. Besides
// these: the statuses warning and critical, the states drain and down, and the
// selectors' tag, meta, zone, node, port and filter.
const (
	OutLeaving = "leaving" // deregistered a moment ago
	OutWeight  = "weight"  // weight 0, and others are there
	OutID      = "id"      // another instance was asked for; explained, not counted
	OutPick    = "pick"    // not among those picked; explained, not counted
)

// Lookup answers a query from a snapshot. A name that nothing is known of is an
// [ErrNotFound]; a known service without a healthy instance is an empty answer that
// says what was left out.
func Lookup(s *Snapshot, q Query) (Answer, error) {
	if err := q.Validate(); err != nil {
		return Answer{}, err
	}
	name, service, err := resolve(s, &q)
	if err != nil {
		return Answer{}, err
	}
	if name.Kind == NameNode {
		return lookupNode(s, q.Name, name.Node)
	}
	if name.Tag != "" {
		q.Tags = append(slices.Clip(q.Tags), name.Tag)
	}
	if name.Port != "" {
		q.Port = name.Port
	}
	l := lookup{query: &q, id: name.ID, answer: Answer{Name: q.Name, Service: service.Name, Revision: service.Revision}}
	chosen := l.choose(service)
	chosen = l.order(chosen)
	l.answer.Endpoints = make([]Endpoint, len(chosen))
	for n, e := range chosen {
		l.answer.Endpoints[n] = e.endpoint(q.Port)
	}
	slices.SortFunc(l.answer.Explain, func(a, b Explanation) int { return strings.Compare(a.ID, b.ID) })
	return l.answer, nil
}

// resolve finds what a name means in a snapshot.
func resolve(s *Snapshot, q *Query) (Name, *Service, error) {
	if service, ok := s.Service(q.Name); ok {
		return Name{Service: q.Name}, service, nil
	}
	name, err := ParseName(q.Name, q.Domain)
	if err != nil {
		return Name{}, nil, err
	}
	switch name.Kind {
	case NameNode:
		return name, nil, nil
	case NameBrowse:
		return Name{}, nil, Errorf(ErrInvalid, "lookup name %q lists services and has no endpoints; ask /v1/services, or DNS for its PTR records", q.Name)
	}
	service, ok := s.Service(name.Service)
	if !ok {
		return Name{}, nil, Errorf(ErrNotFound, "service %q is not known; see 'disc list'", name.Service)
	}
	if name.Kind == NameInstance {
		if _, ok := service.Entry(name.ID); !ok {
			return Name{}, nil, Errorf(ErrNotFound, "instance %q of service %q is not known; see 'disc list %s'", name.ID, name.Service, name.Service)
		}
	}
	return name, service, nil
}

func lookupNode(s *Snapshot, asked, node string) (Answer, error) {
	a := Answer{Name: asked, Revision: s.Revision(), Endpoints: []Endpoint{}}
	for n := range s.Node(node) {
		if n.Address != "" {
			a.Endpoints = append(a.Endpoints, Endpoint{ID: n.Agent, Node: n.Node, Address: n.Address, Zone: n.Zone, Weight: 1, Status: Passing})
		}
	}
	if len(a.Endpoints) == 0 {
		return Answer{}, Errorf(ErrNotFound, "node %q is not known; see /v1/nodes", node)
	}
	return a, nil
}

// lookup is one Lookup under way.
type lookup struct {
	query  *Query
	id     string // only this instance; empty: all
	answer Answer
}

// choose sorts a service's entries into those to answer and those left out.
func (l *lookup) choose(service *Service) []*Entry {
	l.leaveOutLeaving(service)
	up, selected := 0, make([]*Entry, 0, len(service.entries))
	reasons := make([]string, 0, len(service.entries)) // beside selected; empty: healthy
	for _, e := range service.entries {
		if why := l.selects(e); why != "" {
			l.out(e, why)
			continue
		}
		if e.State == Up {
			up++
		}
		selected, reasons = append(selected, e), append(reasons, l.unfit(e))
	}
	healthy := 0
	for _, why := range reasons {
		if why == "" {
			healthy++
		}
	}
	l.answer.Panic = l.query.Status != StatusAny && float64(healthy) < l.query.Panic*float64(up)
	chosen := selected[:0]
	for n, e := range selected {
		if why := reasons[n]; why != "" && !(l.answer.Panic && e.State == Up) {
			l.out(e, why)
			continue
		}
		chosen = append(chosen, e)
	}
	return l.dropZeroWeights(chosen)
}

func (l *lookup) leaveOutLeaving(service *Service) {
	if service.leaving == 0 || l.id != "" {
		return
	}
	for _, at := range service.slots {
		if at.entry == nil && at.agent != nil && at.agent.Leaving {
			l.out(&Entry{Instance: at.agent.Instance}, OutLeaving)
		}
	}
}

func (l *lookup) selects(e *Entry) string {
	if l.id != "" && e.ID != l.id {
		return OutID
	}
	return l.query.Selector.Match(e)
}

// unfit returns why the status filter leaves an entry out, or nothing.
func (l *lookup) unfit(e *Entry) string {
	switch {
	case e.State == Down:
		return string(Down)
	case l.query.Status == StatusAny:
		return ""
	case e.State != Up:
		return string(e.State)
	case e.Status == Critical, e.Status == Warning && l.query.Status == StatusPassing:
		return string(e.Status)
	}
	return ""
}

// dropZeroWeights leaves out the entries of weight 0 unless they are all there is.
func (l *lookup) dropZeroWeights(chosen []*Entry) []*Entry {
	weighty := slices.ContainsFunc(chosen, func(e *Entry) bool { return e.Weight > 0 })
	if !weighty || l.query.Status == StatusAny {
		return chosen
	}
	return slices.DeleteFunc(chosen, func(e *Entry) bool {
		if e.Weight == 0 {
			l.out(e, OutWeight)
		}
		return e.Weight == 0
	})
}

func (l *lookup) out(e *Entry, why string) {
	if why != OutID && why != OutPick {
		if l.answer.LeftOut == nil {
			l.answer.LeftOut = map[string]int{}
		}
		l.answer.LeftOut[why]++
	}
	if l.query.Explain {
		l.answer.Explain = append(l.answer.Explain, Explanation{e.ID, false, explainOut(why)})
	}
}

func explainOut(why string) string {
	switch why {
	case string(Critical), string(Warning):
		return "its status is " + why
	case string(Drain), string(Down):
		return "its state is " + why
	case OutLeaving:
		return "its agent deregistered it a moment ago"
	case OutWeight:
		return "its weight is 0 and others are there"
	case OutPick:
		return "others were picked"
	case OutID:
		return "another instance was asked for"
	}
	return "its " + why + " does not match"
}

// ranked is an entry with its place in a weighted shuffle.
type ranked struct {
	entry *Entry
	tier  int     // lower tiers come first
	rank  float64 // lower ranks come first within a tier
}

// order shuffles entries by weight, the preferred zone first and suspects last, and
// cuts the list to those picked.
//
// The shuffle is that of Efraimidis and Spirakis (2006): sorting by an exponential
// variate divided by the weight draws without replacement, each draw with chances
// proportional to the weights that are left.
func (l *lookup) order(chosen []*Entry) []*Entry {
	random := rand.Float64
	if l.query.Rand != nil {
		random = l.query.Rand.Float64
	}
	list := make([]ranked, len(chosen))
	for n, e := range chosen {
		r := ranked{entry: e, rank: -math.Log(1-random()) / max(float64(e.Weight), 1e-9)}
		if l.query.PreferZone != "" && e.Zone != l.query.PreferZone {
			r.tier = 1
		}
		if e.Suspect {
			r.tier += 2
		}
		list[n] = r
	}
	slices.SortFunc(list, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(a.tier, b.tier), cmp.Compare(a.rank, b.rank))
	})
	ordered := chosen[:0]
	for n, r := range list {
		if l.query.Pick > 0 && n >= l.query.Pick {
			l.out(r.entry, OutPick)
			continue
		}
		ordered = append(ordered, r.entry)
		if l.query.Explain {
			l.answer.Explain = append(l.answer.Explain, Explanation{r.entry.ID, true, l.explainIn(r.entry)})
		}
	}
	return ordered
}

func (l *lookup) explainIn(e *Entry) string {
	why := "its status is " + string(e.Status)
	switch {
	case l.answer.Panic && l.unfit(e) != "":
		why += ", and too few others are healthy"
	case e.Suspect:
		why += "; it vanished with many others and is kept until a probe fails"
	case e.State != Up:
		why += " and its state " + string(e.State)
	}
	return why
}

// endpoint shows an entry as an answer, at its named port if port is not empty.
func (e *Entry) endpoint(port string) Endpoint {
	out := Endpoint{
		ID: e.ID, Node: e.Node, Address: e.Address, Port: e.Port, Ports: e.Ports, Zone: e.Zone,
		Weight: e.Weight, Tags: e.Tags, Meta: e.Meta, Status: e.Status, Suspect: e.Suspect,
	}
	if port != "" {
		out.Port = e.Ports[port]
	}
	if e.State != Up {
		out.State = e.State
	}
	return out
}
