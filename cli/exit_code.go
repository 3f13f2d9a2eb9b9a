package cli

import (
	"context"
	"errors"
	"syscall"

	"disc/cli/child"
	"disc/discovery"
)

// The exit codes.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitNotFound = 3
	exitTimedOut = 4
	exitConflict = 5

	exitInterrupted = 128 + int(syscall.SIGINT)
)

// errTimedOut is wrapped by the errors of waits that took too long.
var errTimedOut = errors.New("timed out")

// exitCodes maps errors to exit codes; the first that matches counts.
var exitCodes = []struct {
	err  error
	code int
}{
	{errTimedOut, exitTimedOut},
	{discovery.ErrInvalid, exitUsage},
	{discovery.ErrNotFound, exitNotFound},
	{discovery.ErrConflict, exitConflict},
	{discovery.ErrLost, exitConflict},
	{context.DeadlineExceeded, exitTimedOut},
	{context.Canceled, exitInterrupted},
}

func exitCode(err error) int {
	if e := (*silentError)(nil); errors.As(err, &e) {
		return e.code
	}
	if e := (*usageError)(nil); errors.As(err, &e) {
		return exitUsage
	}
	if e := (*child.StartError)(nil); errors.As(err, &e) {
		return e.Code()
	}
	if e := (*stoppedError)(nil); errors.As(err, &e) {
		return 128 + int(e.signal)
	}
	for _, row := range exitCodes {
		if errors.Is(err, row.err) {
			return row.code
		}
	}
	return exitFailed
}

// usageError reports a mistake in the command line.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

func usage(err error) error { return &usageError{err} }

// silentError carries an exit code whose message was already printed.
type silentError struct{ code int }

func (*silentError) Error() string { return "" }

// exitWith returns an error that ends the program with a code; nil for code 0.
func exitWith(code int) error {
	if code == exitDone {
		return nil
	}
	return &silentError{code}
}
