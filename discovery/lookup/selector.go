package lookup

import (
	"slices"
	"strings"

	"disc/discovery/view"
)

// Selector says which entries a lookup or a list is about. Its zero value selects
// all.
type Selector struct {
	Tags   []string          // all of them, without regard to case
	Zone   string            // empty: any
	Node   string            // empty: any
	Meta   map[string]string // each key with this value
	Port   string            // has a port of this name
	Filter Filter
}

// Match returns an empty string for an entry that is selected, else the field that
// spoke against it.
func (s *Selector) Match(e *view.Entry) string {
	for _, tag := range s.Tags {
		if !slices.ContainsFunc(e.Tags, func(t string) bool { return strings.EqualFold(t, tag) }) {
			return "tag"
		}
	}
	for key, want := range s.Meta {
		if value, ok := e.Meta[key]; !ok || value != want {
			return "meta"
		}
	}
	switch {
	case s.Zone != "" && e.Zone != s.Zone:
		return "zone"
	case s.Node != "" && e.Node != s.Node:
		return "node"
	case s.Port != "" && e.NamedPort(s.Port) == 0:
		return "port"
	case !s.Filter.Match(e):
		return "filter"
	}
	return ""
}
