package discovery

import (
	"errors"
	"fmt"
)

// The kinds of failure that callers tell apart. Every protocol maps them in one
// table: HTTP to a status, DNS to an rcode, the CLI to an exit code. They are
// wrapped, so compare with [errors.Is].
var (
	// ErrInvalid: the request is wrong and will be wrong again.
	ErrInvalid = errors.New("invalid")
	// ErrNotFound: nothing is known under that name.
	ErrNotFound = errors.New("not found")
	// ErrConflict: another owner or a newer revision stands in the way.
	ErrConflict = errors.New("conflict")
	// ErrLost: what the caller held is not held any more.
	ErrLost = errors.New("lost")
	// ErrUnavailable: there is no view to answer from, or etcd cannot be reached.
	ErrUnavailable = errors.New("unavailable")
	// ErrForbidden: the caller may not do this.
	ErrForbidden = errors.New("forbidden")
)

// kindError gives a message its kind without putting the kind into the text.
type kindError struct {
	kind error
	text string
}

func (e *kindError) Error() string        { return e.text }
func (e *kindError) Is(target error) bool { return target == e.kind }

// Errorf returns an error with the formatted text for which errors.Is(err, kind)
// holds; kind is one of the errors of this package.
func Errorf(kind error, format string, args ...any) error {
	return &kindError{kind, fmt.Sprintf(format, args...)}
}

// ConflictError says who holds an instance that another owner wants to register.
type ConflictError struct {
	Service, ID string
	Node, Owner string // of the holder
	Cloned      bool   // the holder has this agent's own owner id: a copied data directory
}

func (e *ConflictError) Error() string {
	if e.Cloned {
		return fmt.Sprintf("%s/%s is rewritten by another agent with this agent's owner id %s (node %s): a copied data directory; give each agent its own",
			e.Service, e.ID, e.Owner, e.Node)
	}
	return fmt.Sprintf("%s/%s is registered by node %s (owner %s); choose another id or stop that one",
		e.Service, e.ID, e.Node, e.Owner)
}

// Is reports that a ConflictError is an [ErrConflict].
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// BrokenRecord is the error of a key whose value cannot be read.
type BrokenRecord struct {
	Key      Key
	Modified int64 // etcd's revision of the value
	Err      error
}

func (b BrokenRecord) Error() string {
	return fmt.Sprintf("%s %s/%s at revision %d: %v", b.Key.Kind, b.Key.owner(), b.Key.ID, b.Modified, b.Err)
}

// Unwrap returns what is wrong with the value.
func (b BrokenRecord) Unwrap() error { return b.Err }
