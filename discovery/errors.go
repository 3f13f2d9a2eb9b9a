package discovery

import (
	"errors"
	"fmt"
	"time"
)

// The kinds of failure that callers tell apart. Each protocol maps them in one table:
// HTTP to a status, DNS to an rcode, the CLI to an exit code. Errors wrap them: compare
// with [errors.Is].
var (
	// ErrInvalid: the request is wrong; repeating it does not help.
	ErrInvalid = errors.New("invalid")
	// ErrNotFound: the name is not known.
	ErrNotFound = errors.New("not found")
	// ErrConflict: another owner, or a newer revision, prevents it.
	ErrConflict = errors.New("conflict")
	// ErrLost: the caller no longer holds the lock or the claim.
	ErrLost = errors.New("lost")
	// ErrUnavailable: etcd cannot be reached, or there is no view to answer from yet.
	ErrUnavailable = errors.New("unavailable")
	// ErrForbidden: the caller has no permission.
	ErrForbidden = errors.New("forbidden")
	// ErrStorageFull: etcd, or the share of it that the write may use, is full. Registrations
	// and deletions may still succeed.
	ErrStorageFull = errors.New("storage full")
	// ErrBusy: the agent has too many writes to make at the moment; see [BusyError].
	ErrBusy = errors.New("busy")
)

// kindError is an error of a kind that its text does not contain.
type kindError struct {
	kind error
	text string
}

func (e *kindError) Error() string        { return e.text }
func (e *kindError) Is(target error) bool { return target == e.kind }

// Errorf returns an error with the formatted text, for which errors.Is(err, kind) is
// true. kind is one of the errors of this package.
func Errorf(kind error, format string, args ...any) error {
	return &kindError{kind, fmt.Sprintf(format, args...)}
}

// ConflictError reports that an instance cannot be registered because another owner
// registers it.
type ConflictError struct {
	Service, ID string
	Node, Owner string // of the other
	Cloned      bool   // the other agent has this agent's owner id: its data directory is a copy
}

func (e *ConflictError) Error() string {
	if e.Cloned {
		return fmt.Sprintf("%s/%s is rewritten by another agent with this agent's owner id %s (node %s): a copied data directory; give each agent its own",
			e.Service, e.ID, printable(e.Owner), e.Node)
	}
	return fmt.Sprintf("%s/%s is registered by node %s (owner %s); choose another id or stop that one",
		e.Service, e.ID, e.Node, printable(e.Owner))
}

// Is reports that a ConflictError is an [ErrConflict].
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// BusyError reports that an agent makes as many writes of shared state as it may.
type BusyError struct {
	PerSecond  int           // the writes that the agent may make
	RetryAfter time.Duration // until the write can be made at the earliest
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("this agent makes %d writes of shared state a second at most (kv.max_writes_per_second), and more are waiting than it makes in a second; try again in %v",
		e.PerSecond, e.RetryAfter.Round(time.Millisecond))
}

// Is reports that a BusyError is an [ErrBusy].
func (e *BusyError) Is(target error) bool { return target == ErrBusy }

// BrokenRecord is the error of a key whose value cannot be decoded.
type BrokenRecord struct {
	Key      Key
	Modified int64 // etcd's revision of the value
	Err      error
}

func (b BrokenRecord) Error() string {
	return fmt.Sprintf("%s %s/%s at revision %d: %v", b.Key.Kind, b.Key.owner(), printable(b.Key.ID), b.Modified, b.Err)
}

// Unwrap returns the reason.
func (b BrokenRecord) Unwrap() error { return b.Err }
