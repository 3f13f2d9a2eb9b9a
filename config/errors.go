package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"disc/discovery"
)

// source is a place that values come from.
type source int

const (
	fromFile source = iota
	fromEnv
	fromFlag
	fromDefault
)

// origin is where a value came from.
type origin struct {
	source source
	name   string // path of the file, name of the variable or flag
	line   int    // in the file; 0: none in particular
}

// String is the origin as people see it in a listing.
func (o origin) String() string {
	if o.source == fromFile {
		return "file " + o.place()
	}
	return o.place()
}

// place is the origin at the start of an error; editors jump to path:line.
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

// problem is one thing that is wrong.
type problem struct {
	at   origin
	key  string // "": of the file as a whole
	text string
}

// Error is all that is wrong with the settings, a line each:
//
//	/etc/disc/config.yaml:12: etcd.dial_timout: unknown key; did you mean dial_timeout?
//	flag --zone: zone: …
//
// It is a [discovery.ErrInvalid].
type Error struct {
	problems []problem
}

// Error lists the problems: those of the file by line, then the others.
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

// joined returns the problems as one error; nil when there are none.
func joined(problems []problem) error {
	if len(problems) == 0 {
		return nil
	}
	slices.SortStableFunc(problems, func(a, b problem) int {
		return cmp.Or(cmp.Compare(a.at.source, b.at.source), cmp.Compare(a.at.line, b.at.line), cmp.Compare(a.at.name, b.at.name))
	})
	return &Error{problems}
}

// flatten returns the texts of an error that joins others, each with the whole prefix
// that it was wrapped in.
func flatten(err error) []string {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var texts []string
		for _, e := range many.Unwrap() {
			texts = append(texts, flatten(e)...)
		}
		return texts
	}
	one, ok := err.(interface{ Unwrap() error })
	if !ok || one.Unwrap() == nil {
		return []string{err.Error()}
	}
	prefix, ok := strings.CutSuffix(err.Error(), one.Unwrap().Error())
	if !ok {
		return []string{err.Error()}
	}
	texts := flatten(one.Unwrap())
	for n := range texts {
		texts[n] = prefix + texts[n]
	}
	return texts
}

// suggest returns "; did you mean X?" when one of known is near to word, else "".
func suggest(word string, known []string) string {
	word = strings.ReplaceAll(strings.ToLower(word), "-", "_")
	best, least := "", 2+min(len(word)/4, 2)
	for _, k := range known {
		if d := distance(word, k); d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// distance is Levenshtein's: the least number of bytes inserted, removed or replaced.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
