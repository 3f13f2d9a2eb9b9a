package discovery

import (
	"cmp"
	"strconv"
	"strings"
)

// Cursor is a position in the stream of changes, such as 42.1: etcd's revision, and a
// step for changes that the view made by itself at that revision. The view makes a step
// when it drops an instance that it retained after its record was gone, adds or drops a
// [Scope], or learns of a change late. Cursors of one epoch are ordered; see
// [Cursor.Compare].
type Cursor struct {
	Epoch    string // identifies the data of etcd that the revision counts
	Revision int64
	Step     int64 // from 1; 0: none
}

// ParseCursor parses the form that [Cursor.String] returns. It returns false for any
// other.
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

// String returns "42-<epoch>", or "42.1-<epoch>" with a step.
func (c Cursor) String() string {
	s := strconv.FormatInt(c.Revision, 10)
	if c.Step > 0 {
		s += "." + strconv.FormatInt(c.Step, 10)
	}
	return s + "-" + c.Epoch
}

// Compare orders cursors of one epoch: it is negative when c is before other, 0 when they
// are equal, and positive when c is after other.
func (c Cursor) Compare(other Cursor) int {
	return cmp.Or(cmp.Compare(c.Revision, other.Revision), cmp.Compare(c.Step, other.Step))
}
