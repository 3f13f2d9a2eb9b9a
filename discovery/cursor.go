package discovery

import (
	"cmp"
	"strconv"
	"strings"
)

// Cursor is a place in the events of an epoch: all up to a revision of etcd, and of
// what happened to the view at that revision without a newer one, up to a step: when it
// gives up an instance that it has kept, see [Decision], takes in or drops a [Scope], or
// hears of something late.
type Cursor struct {
	Epoch    string
	Revision int64
	Step     int64
}

// ParseCursor reads what [Cursor.String] writes.
func ParseCursor(s string) (Cursor, bool) {
	number, epoch, ok := strings.Cut(s, "-")
	first, second, stepped := strings.Cut(number, ".")
	p := Cursor{Epoch: epoch}
	var err error
	if p.Revision, err = strconv.ParseInt(first, 10, 64); err != nil || p.Revision < 0 {
		return Cursor{}, false
	}
	if stepped {
		if p.Step, err = strconv.ParseInt(second, 10, 64); err != nil || p.Step <= 0 {
			return Cursor{}, false
		}
	}
	return p, ok
}

// String writes "42-<epoch>", or "42.1-<epoch>" when there is a step.
func (p Cursor) String() string {
	s := strconv.FormatInt(p.Revision, 10)
	if p.Step > 0 {
		s += "." + strconv.FormatInt(p.Step, 10)
	}
	return s + "-" + p.Epoch
}

// Compare orders positions of one epoch: it is negative when p is before q.
func (p Cursor) Compare(q Cursor) int {
	return cmp.Or(cmp.Compare(p.Revision, q.Revision), cmp.Compare(p.Step, q.Step))
}
