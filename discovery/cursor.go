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
	c := Cursor{Epoch: epoch}
	var err error
	if c.Revision, err = strconv.ParseInt(first, 10, 64); err != nil || c.Revision < 0 {
		return Cursor{}, false
	}
	if stepped {
		if c.Step, err = strconv.ParseInt(second, 10, 64); err != nil || c.Step <= 0 {
			return Cursor{}, false
		}
	}
	return c, ok
}

// String writes "42-<epoch>", or "42.1-<epoch>" when there is a step.
func (c Cursor) String() string {
	s := strconv.FormatInt(c.Revision, 10)
	if c.Step > 0 {
		s += "." + strconv.FormatInt(c.Step, 10)
	}
	return s + "-" + c.Epoch
}

// Compare orders positions of one epoch: it is negative when p is before other.
func (c Cursor) Compare(other Cursor) int {
	return cmp.Or(cmp.Compare(c.Revision, other.Revision), cmp.Compare(c.Step, other.Step))
}
