package lookup

import (
	"strings"
	"sync"

	"github.com/hashicorp/go-bexpr"
	"github.com/hashicorp/go-bexpr/grammar"

	"disc/discovery"
	"disc/discovery/view"
)

// Filter is a compiled filter expression, in the language of
// github.com/hashicorp/go-bexpr, over the fields of a [view.Entry] by their JSON names:
//
//	meta.team == "core" and "v2" in tags
//	weight != 0 or zone matches "^eu-"
//
// A comparison with a meta key or a port that an instance lacks is false. The zero Filter
// matches everything.
type Filter struct{ compiled *compiledFilter }

type compiledFilter struct {
	mu        sync.Mutex // the evaluator is not safe for concurrent use: it compiles regular expressions lazily
	evaluator *bexpr.Evaluator
}

// MaxFilter is the greatest length of a filter expression, in bytes.
const MaxFilter = 1024

// maxFilterSteps bounds the parser, whose work grows tenfold with each level of
// parentheses. It is enough for four levels, and 20 ms in the worst case.
const maxFilterSteps = 500_000

// ParseFilter compiles an expression; an empty one matches everything. It returns an
// [discovery.ErrInvalid] for an expression that cannot be parsed, names an unknown field,
// or compares a field in a way that its type does not allow.
func ParseFilter(expression string) (Filter, error) {
	if expression == "" {
		return Filter{}, nil
	}
	if len(expression) > MaxFilter {
		return Filter{}, discovery.Errorf(discovery.ErrInvalid, "filter has %d bytes; at most %d are allowed", len(expression), MaxFilter)
	}
	tree, err := grammar.Parse("", []byte(expression), grammar.MaxExpressions(maxFilterSteps))
	if err != nil && strings.Contains(err.Error(), "max number of expressions") {
		return Filter{}, discovery.Errorf(discovery.ErrInvalid, "filter %q is nested too deeply; use fewer parentheses", expression)
	}
	if err != nil {
		return Filter{}, discovery.Errorf(discovery.ErrInvalid, "filter %q %s", expression, explainSyntax(expression, err))
	}
	if err := checkFilter(tree, filterFields); err != nil {
		return Filter{}, discovery.Errorf(discovery.ErrInvalid, "filter %q: %v", expression, err)
	}
	evaluator, err := bexpr.CreateEvaluator(expression, bexpr.WithMaxExpressions(maxFilterSteps))
	if err != nil {
		return Filter{}, discovery.Errorf(discovery.ErrInvalid, "filter %q: %v", expression, err)
	}
	return Filter{&compiledFilter{evaluator: evaluator}}, nil
}

// Match reports whether an entry matches.
func (f Filter) Match(e *view.Entry) bool {
	ok, err := f.match(e)
	return ok && err == nil
}

func (f Filter) match(e *view.Entry) (bool, error) {
	if f.compiled == nil {
		return true, nil
	}
	f.compiled.mu.Lock()
	defer f.compiled.mu.Unlock()
	return f.compiled.evaluator.Evaluate(filterable{
		e.Service, e.ID, e.Node, e.Address, e.Port, e.Ports, e.Zone, e.Weight, e.Tags, e.Meta,
		string(e.Status), e.Slots, string(e.State), string(e.Source),
	})
}

// filterable has the fields of an entry for expressions: plain types by their JSON names.
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
