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
// github.com/hashicorp/go-bexpr, over the fields of an [Entry] as JSON names them:
//
//	meta.team == "core" and "v2" in tags
//	weight != 0 or zone matches "^eu-"
//
// A meta key or port that an instance lacks equals nothing. The zero Filter passes
// everything.
type Filter struct{ compiled *compiledFilter }

type compiledFilter struct {
	mu        sync.Mutex // the evaluator compiles regular expressions when it meets them
	evaluator *bexpr.Evaluator
}

// MaxFilter is the greatest length of a filter expression, in bytes.
const MaxFilter = 1024

// maxFilterSteps bounds the parser, whose work grows tenfold with each level of
// parentheses: enough for four of them, and some 20 ms at the worst.
const maxFilterSteps = 500_000

// ParseFilter compiles an expression. An empty one passes everything. It returns an
// [ErrInvalid] for an expression that cannot be parsed, that names a field that
// instances do not have, or that compares a field in a way that its type does not
// allow.
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
	if err == nil {
		err = checkFilter(tree, filterFields)
	}
	if err != nil {
		return Filter{}, discovery.Errorf(discovery.ErrInvalid, "filter %q: %v", expression, err)
	}
	evaluator, err := bexpr.CreateEvaluator(expression, bexpr.WithMaxExpressions(maxFilterSteps))
	if err != nil {
		return Filter{}, discovery.Errorf(discovery.ErrInvalid, "filter %q: %v", expression, err)
	}
	return Filter{&compiledFilter{evaluator: evaluator}}, nil
}

// Match reports whether an entry passes.
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
