package lookup

import (
	"slices"
	"strings"

	"disc/discovery/view"
)

// Selector selects entries. Its zero value selects all.
type Selector struct {
	Tags   []string          // all of these, without regard to case
	Zone   string            // empty: any
	Node   string            // empty: any
	Meta   map[string]string // all of these keys, with these values
	Port   string            // a port of this name, see [view.Entry.NamedPort]; empty: any
	Filter Filter
}

// Match returns an empty string for an entry that is selected, else the field that does not
// match.
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
