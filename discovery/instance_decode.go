package discovery

import (
	"bytes"
	"encoding/json"
	"slices"
)

// decodeCanonical decodes a record in the form that [Instance.Encode] returns: no spaces,
// fields in order, strings of ASCII without escapes but in outputs of checks. Nearly all records have it, and it
// decodes several times faster than encoding/json. decodeCanonical returns false for any
// other form, which the caller leaves to encoding/json.
//
// Fields that are equal in like, an instance of the same service, are shared with it:
// instances of a service differ little, and their maps and lists would take most of the
// memory.
func decodeCanonical(text []byte, to, like *Instance) bool {
	*to = Instance{Weight: 1, Slots: 1, Status: Passing}
	s := scanner{text: text}
	return readFields(&s, instanceFields, to, like) && s.at == len(text)
}

// scanner reads JSON in canonical form from left to right. Its methods return false for
// any other form.
type scanner struct {
	text []byte
	at   int
}

// field reads the value of one field of an object into to.
type field[T any] struct {
	name string
	read func(s *scanner, to, like *T) bool
}

// instanceFields are the fields of an [Instance], in the order of their encoding.
var instanceFields = []field[Instance]{
	{"service", func(s *scanner, to, like *Instance) bool { return s.string(&to.Service, like.Service) }},
	{"id", func(s *scanner, to, like *Instance) bool { return s.string(&to.ID, like.ID) }},
	{"node", func(s *scanner, to, like *Instance) bool { return s.string(&to.Node, like.Node) }},
	{"address", func(s *scanner, to, like *Instance) bool { return s.string(&to.Address, like.Address) }},
	{"port", func(s *scanner, to, _ *Instance) bool { return s.int(&to.Port) }},
	{"ports", func(s *scanner, to, like *Instance) bool { return s.ports(&to.Ports, like.Ports) }},
	{"zone", func(s *scanner, to, like *Instance) bool { return s.string(&to.Zone, like.Zone) }},
	{"weight", func(s *scanner, to, _ *Instance) bool { return s.int(&to.Weight) }},
	{"tags", func(s *scanner, to, like *Instance) bool { return s.tags(&to.Tags, like.Tags) }},
	{"meta", func(s *scanner, to, like *Instance) bool { return s.meta(&to.Meta, like.Meta) }},
	{"status", func(s *scanner, to, _ *Instance) bool { return s.status(&to.Status) }},
	{"checks", func(s *scanner, to, like *Instance) bool { return s.checks(&to.Checks, like.Checks) }},
	{"slots", func(s *scanner, to, _ *Instance) bool { return s.int(&to.Slots) }},
	{"owner", func(s *scanner, to, like *Instance) bool { return s.string(&to.Owner, like.Owner) }},
	{"run", func(s *scanner, to, like *Instance) bool { return s.string(&to.Run, like.Run) }},
	{"registered_at", func(s *scanner, to, _ *Instance) bool {
		text, ok := s.quoted()
		return ok && to.RegisteredAt.UnmarshalText(text) == nil
	}},
	{"leaving", func(s *scanner, to, _ *Instance) bool { to.Leaving = true; return s.literal("true") }},
	{"deregister_after", func(s *scanner, to, _ *Instance) bool {
		text, ok := s.quoted()
		return ok && to.DeregisterAfter.UnmarshalText(text) == nil
	}},
}

var checkFields = []field[CheckStatus]{
	{"id", func(s *scanner, to, like *CheckStatus) bool { return s.string(&to.ID, like.ID) }},
	{"name", func(s *scanner, to, like *CheckStatus) bool { return s.string(&to.Name, like.Name) }},
	{"type", func(s *scanner, to, like *CheckStatus) bool {
		return s.string((*string)(&to.Type), string(like.Type))
	}},
	{"status", func(s *scanner, to, _ *CheckStatus) bool { return s.status(&to.Status) }},
	{"output", func(s *scanner, to, like *CheckStatus) bool { return s.anyString(&to.Output, like.Output) }},
}

// readFields reads an object whose fields are in the given order, each at most once.
func readFields[T any](s *scanner, fields []field[T], to, like *T) bool {
	return s.members('{', '}', func() bool {
		name, ok := s.quoted()
		if !ok || !s.accept(':') {
			return false
		}
		n := slices.IndexFunc(fields, func(f field[T]) bool { return f.name == string(name) })
		if n < 0 {
			return false
		}
		read := fields[n].read
		fields = fields[n+1:]
		return read(s, to, like)
	})
}

// members reads an object or a list, and calls member at each member.
func (s *scanner) members(opening, closing byte, member func() bool) bool {
	if !s.accept(opening) {
		return false
	}
	if s.accept(closing) {
		return true
	}
	for member() {
		if s.accept(closing) {
			return true
		}
		if !s.accept(',') {
			return false
		}
	}
	return false
}

func (s *scanner) accept(c byte) bool {
	if s.at < len(s.text) && s.text[s.at] == c {
		s.at++
		return true
	}
	return false
}

func (s *scanner) literal(w string) bool {
	found := bytes.HasPrefix(s.text[s.at:], []byte(w))
	if found {
		s.at += len(w)
	}
	return found
}

// quoted reads a string of printable ASCII without escapes.
func (s *scanner) quoted() ([]byte, bool) {
	if !s.accept('"') {
		return nil, false
	}
	for n, c := range s.text[s.at:] {
		switch {
		case c == '"':
			text := s.text[s.at : s.at+n]
			s.at += n + 1
			return text, true
		case c == '\\' || c < ' ' || c > '~':
			return nil, false
		}
	}
	return nil, false
}

func (s *scanner) string(to *string, like string) bool {
	text, ok := s.quoted()
	if string(text) == like {
		*to = like
	} else {
		*to = string(text)
	}
	return ok
}

// anyString reads a string that may have escapes and characters beyond ASCII, as outputs of checks do.
func (s *scanner) anyString(to *string, like string) bool {
	begin := s.at
	if s.string(to, like) {
		return true
	}
	if s.at = begin; !s.accept('"') {
		return false
	}
	for ; s.at < len(s.text); s.at++ {
		switch s.text[s.at] {
		case '\\':
			s.at++
		case '"':
			s.at++
			if json.Unmarshal(s.text[begin:s.at], to) != nil {
				return false
			}
			if *to == like {
				*to = like
			}
			return true
		}
	}
	return false
}

func (s *scanner) status(to *Status) bool {
	text, ok := s.quoted()
	for _, known := range [...]Status{Passing, Warning, Critical} {
		if string(text) == string(known) {
			*to = known
			return ok
		}
	}
	return false
}

// int reads a number of one to nine digits without leading zeros.
func (s *scanner) int(to *int) bool {
	begin, n := s.at, 0
	for s.at < len(s.text) && '0' <= s.text[s.at] && s.text[s.at] <= '9' {
		n = 10*n + int(s.text[s.at]-'0')
		s.at++
	}
	*to = n
	digits := s.at - begin
	return digits == 1 || 1 < digits && digits < 10 && s.text[begin] != '0'
}

func (s *scanner) tags(to *Tags, like Tags) bool {
	begin, n, same := s.at, 0, true
	if !s.members('[', ']', func() bool {
		tag, ok := s.quoted()
		same = same && n < len(like) && string(tag) == like[n]
		n++
		return ok
	}) {
		return false
	}
	if same && n == len(like) {
		*to = like
		return true
	}
	s.at = begin
	*to = make(Tags, 0, n)
	return s.members('[', ']', func() bool {
		tag, ok := s.quoted()
		*to = append(*to, string(tag))
		return ok
	})
}

func (s *scanner) meta(to *Meta, like Meta) bool {
	return readMap(s, (*map[string]string)(to), like, (*scanner).string)
}

func (s *scanner) ports(to *Ports, like Ports) bool {
	return readMap(s, (*map[string]int)(to), like, func(s *scanner, to *int, _ int) bool { return s.int(to) })
}

// readMap reads an object whose names are sorted. It reads twice: first to compare with
// like, then, if that differs, to fill a new map.
func readMap[V comparable](s *scanner, to *map[string]V, like map[string]V, value func(s *scanner, to *V, like V) bool) bool {
	begin, n, same := s.at, 0, true
	var last []byte
	if !s.members('{', '}', func() bool {
		name, ok := s.quoted()
		if !ok || n > 0 && string(name) <= string(last) || !s.accept(':') {
			return false
		}
		known, found := like[string(name)]
		var v V
		ok = value(s, &v, known)
		same = same && found && v == known
		last, n = name, n+1
		return ok
	}) {
		return false
	}
	if same && n == len(like) {
		*to = like
		return true
	}
	s.at = begin
	*to = make(map[string]V, n)
	return s.members('{', '}', func() bool {
		name, _ := s.quoted()
		s.accept(':')
		var v, none V
		ok := value(s, &v, none)
		(*to)[string(name)] = v
		return ok
	})
}

func (s *scanner) checks(to *[]CheckStatus, like []CheckStatus) bool {
	all := make([]CheckStatus, 0, len(like))
	ok := s.members('[', ']', func() bool {
		all = append(all, CheckStatus{})
		check := &all[len(all)-1]
		known := check // the empty status: nothing to share
		if len(all) <= len(like) {
			known = &like[len(all)-1]
		}
		return readFields(s, checkFields, check, known)
	})
	if *to = all; slices.Equal(all, like) {
		*to = like
	}
	return ok
}
