package discovery

import (
	"maps"
	"slices"

	"github.com/hashicorp/go-bexpr"
)

// Filter is a compiled filter expression, in the language of
// github.com/hashicorp/go-bexpr, over the fields of an [Entry] as JSON names them:
//
//	meta.team == "core" and "v2" in tags
//	weight != 0 or zone matches "^eu-"
//
// The zero Filter passes everything.
type Filter struct{ evaluator *bexpr.Evaluator }

// MaxFilter is the greatest length of a filter expression, in bytes.
const MaxFilter = 1024

// ParseFilter compiles an expression. An empty one passes everything. It returns an
// [ErrInvalid] for an expression that cannot be parsed or that names a field that
// instances do not have.
func ParseFilter(expression string) (Filter, error) {
	if expression == "" {
		return Filter{}, nil
	}
	if len(expression) > MaxFilter {
		return Filter{}, Errorf(ErrInvalid, "filter has %d bytes; at most %d are allowed", len(expression), MaxFilter)
	}
	// The undefined value makes a meta key or port that an instance lacks compare as
	// empty instead of failing.
	e, err := bexpr.CreateEvaluator(expression, bexpr.WithTagName("bexpr"), bexpr.WithUnknownValue(""), bexpr.WithMaxExpressions(64))
	if err != nil {
		return Filter{}, Errorf(ErrInvalid, "filter %q: %v", expression, err)
	}
	f := Filter{e}
	if _, err := f.match(&Entry{}); err != nil {
		return Filter{}, Errorf(ErrInvalid, "filter %q: %v", expression, err)
	}
	return f, nil
}

// Match reports whether an entry passes.
func (f Filter) Match(e *Entry) bool {
	ok, err := f.match(e)
	return ok && err == nil
}

// filterable is what expressions see of an entry: plain types under the JSON names.
type filterable struct {
	Service string            `bexpr:"service"`
	ID      string            `bexpr:"id"`
	Node    string            `bexpr:"node"`
	Address string            `bexpr:"address"`
	Port    int               `bexpr:"port"`
	Ports   map[string]int    `bexpr:"ports"`
	Zone    string            `bexpr:"zone"`
	Weight  int               `bexpr:"weight"`
	Tags    []string          `bexpr:"tags"`
	Meta    map[string]string `bexpr:"meta"`
	Status  string            `bexpr:"status"`
	Slots   int               `bexpr:"slots"`
	State   string            `bexpr:"state"`
	Source  string            `bexpr:"source"`
}

func (f Filter) match(e *Entry) (bool, error) {
	if f.evaluator == nil {
		return true, nil
	}
	return f.evaluator.Evaluate(filterable{
		e.Service, e.ID, e.Node, e.Address, e.Port, e.Ports, e.Zone, e.Weight, e.Tags, e.Meta,
		string(e.Status), e.Slots, string(e.State), string(e.Source),
	})
}

// Selector says which entries a lookup or a list is about. Its zero value selects
// all.
type Selector struct {
	Tags   []string          // all of them
	Zone   string            // empty: any
	Node   string            // empty: any
	Meta   map[string]string // each key with this value
	Port   string            // has a port of this name
	Filter Filter
}

// Match returns an empty string for an entry that is selected, else the field that
// spoke against it.
func (s *Selector) Match(e *Entry) string {
	for _, tag := range s.Tags {
		if !slices.Contains(e.Tags, tag) {
			return "tag"
		}
	}
	for key := range maps.Keys(s.Meta) {
		if e.Meta[key] != s.Meta[key] {
			return "meta"
		}
	}
	switch {
	case s.Zone != "" && e.Zone != s.Zone:
		return "zone"
	case s.Node != "" && e.Node != s.Node:
		return "node"
	case s.Port != "" && e.Ports[s.Port] == 0:
		return "port"
	case !s.Filter.Match(e):
		return "filter"
	}
	return ""
}
