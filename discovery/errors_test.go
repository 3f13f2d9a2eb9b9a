package discovery

import (
	"errors"
	"fmt"
	"testing"
)

func TestErrorKinds(t *testing.T) {
	conflict := &ConflictError{Service: "web", ID: "web-1", Node: "host-2", Owner: "o2"}
	cloned := &ConflictError{Service: "web", ID: "web-1", Node: "host-2", Owner: "o2", Cloned: true}
	tests := []struct {
		err     error
		kind    error
		message string
	}{
		{Errorf(ErrNotFound, "no %s", "web"), ErrNotFound, "no web"},
		{fmt.Errorf("look up: %w", Errorf(ErrUnavailable, "no view")), ErrUnavailable, "look up: no view"},
		{conflict, ErrConflict, "web/web-1 is registered by node host-2 (owner o2); choose another id or stop that one"},
		{cloned, ErrConflict, "web/web-1 is rewritten by another agent with this agent's owner id o2 (node host-2): " +
			"a copied data directory; give each agent its own"},
		{Errorf(ErrLost, "lock %s is lost", "a"), ErrLost, "lock a is lost"},
		{BrokenRecord{Err: Errorf(ErrInvalid, "torn")}, ErrInvalid, "key / at revision 0: torn"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.err), func(t *testing.T) {
			for _, kind := range []error{ErrInvalid, ErrNotFound, ErrConflict, ErrUnavailable, ErrForbidden, ErrLost} {
				if got := errors.Is(tt.err, kind); got != (kind == tt.kind) {
					t.Errorf("%q is %q: %t", tt.err, kind, got)
				}
			}
			if tt.err.Error() != tt.message {
				t.Errorf("got %q, want %q", tt.err, tt.message)
			}
		})
	}
}
