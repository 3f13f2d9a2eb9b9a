package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"disc/discovery"
)

// source is a kind of origin. Errors are listed in this order.
type source int

const (
	fromFile source = iota
	fromEnv
	fromFlag
	fromCommand
	fromDefault
)

// origin is the place that gives a value.
type origin struct {
	source source
	name   string // path of the file, or name of the variable or flag
	line   int    // in the file; 0: the file as a whole
}

// String returns the origin as [Setting] shows it.
func (o origin) String() string {
	if o.source == fromFile {
		return "file " + o.place()
	}
	return o.place()
}

// place returns the origin as errors begin with it; editors jump to path:line.
func (o origin) place() string {
	switch {
	case o.source == fromEnv:
		return "env " + o.name
	case o.source == fromFlag:
		return "flag --" + o.name
	case o.source == fromDefault:
		return "default"
	case o.line == 0:
		return o.name
	}
	return fmt.Sprintf("%s:%d", o.name, o.line)
}

// problem is one error in the settings.
type problem struct {
	at   origin
	key  string // "": the file as a whole
	text string
}

// Error lists every problem of the settings, one per line:
//
//	/etc/disc/config.yaml:12: etcd.dial_timout: unknown key; did you mean dial_timeout?
//	flag --zone: zone: …
//
// It is a [discovery.ErrInvalid].
type Error struct {
	problems []problem
}

// Error lists the problems: those of the file by line, then those of variables and flags.
func (e *Error) Error() string {
	lines := make([]string, len(e.problems))
	for n, p := range e.problems {
		lines[n] = p.at.place() + ": " + p.text
		if p.key != "" {
			lines[n] = p.at.place() + ": " + p.key + ": " + p.text
		}
	}
	return strings.Join(lines, "\n")
}

// Is reports that an Error is a [discovery.ErrInvalid].
func (e *Error) Is(target error) bool { return target == discovery.ErrInvalid }

// joined returns the problems, sorted, as one [*Error]; nil if there are none.
func joined(problems []problem) error {
	if len(problems) == 0 {
		return nil
	}
	slices.SortStableFunc(problems, func(a, b problem) int {
		return cmp.Or(cmp.Compare(a.at.source, b.at.source), cmp.Compare(a.at.line, b.at.line), cmp.Compare(a.at.name, b.at.name))
	})
	return &Error{problems}
}

// flatten splits an error that joins others into their texts. Each keeps the prefixes that
// it was wrapped in. nil has none.
func flatten(err error) (texts []string) {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			texts = append(texts, flatten(e)...)
		}
		return texts
	}
	if inner := errors.Unwrap(err); inner != nil {
		if prefix, ok := strings.CutSuffix(err.Error(), inner.Error()); ok {
			for _, text := range flatten(inner) {
				texts = append(texts, prefix+text)
			}
			return texts
		}
	}
	return []string{err.Error()}
}

// suggest returns "; did you mean X?" if one of known resembles word, otherwise "".
func suggest(word string, known []string) string {
	if best := nearest(word, known); best != "" {
		return "; did you mean " + best + "?"
	}
	return ""
}

// nearest returns the one of known that resembles word most, "" if none does. Of two, it is the one
// that begins like word for longer.
func nearest(word string, known []string) string {
	word = strings.ReplaceAll(strings.ToLower(word), "-", "_")
	best, least := "", 1+min(len(word)/4, 2)
	for _, k := range known {
		d := distance(word, k, least+1)
		if d < least || d == least && (best == "" || commonPrefix(word, k) > commonPrefix(word, best)) {
			best, least = k, d
		}
	}
	return best
}

// commonPrefix returns how many bytes a and b begin with alike.
func commonPrefix(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// distance returns the Levenshtein distance of a and b in bytes, or limit if that is lower.
// Its time is exponential in limit, which is 4 at most.
func distance(a, b string, limit int) int {
	switch {
	case limit <= 0 || a == "" || b == "":
		return min(limit, len(a)+len(b))
	case a[0] == b[0]:
		return distance(a[1:], b[1:], limit)
	}
	return 1 + min(distance(a[1:], b, limit-1), distance(a, b[1:], limit-1), distance(a[1:], b[1:], limit-1))
}
