package etcd

import (
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"

	"disc/discovery"
)

// Refusal is the reason for which a request to etcd was refused. A refused request was
// not carried out.
type Refusal int

// The refusals.
const (
	// NotRefused: there is no answer, or the members cannot agree on one: no leader, a
	// timeout, a broken connection, the caller's context ended. The request may have
	// been carried out, and may succeed when it is sent again.
	NotRefused Refusal = iota
	// RefusedByServer: the server that was asked cannot serve such a request, or not now: it
	// is corrupt, does not know the call, or has compacted the revision. Another may.
	RefusedByServer
	// RefusedToken: the token is stale. The next call fetches another.
	RefusedToken
	// RefusedCredentials: the user's name and password cannot be read.
	RefusedCredentials
	// RefusedUser: the name or the password is wrong, or etcd requires a user.
	RefusedUser
	// RefusedPermission: the user has no permission for a key of the request.
	RefusedPermission
	// RefusedRequest: the request is too large or malformed.
	RefusedRequest
	// RefusedState: etcd's data does not allow the request: a lease is missing, there is
	// no space left, an alarm is raised.
	RefusedState
)

// Refused returns why etcd, or the client on its way there, refused a request; for nil
// and for any other error it returns NotRefused.
func Refused(err error) Refusal {
	code, cause := unwrap(err)
	switch {
	case errors.Is(err, discovery.ErrForbidden), errors.Is(cause, rpctypes.ErrAuthFailed), errors.Is(cause, rpctypes.ErrUserEmpty):
		return RefusedUser
	case errors.Is(cause, rpctypes.ErrInvalidAuthToken), errors.Is(cause, rpctypes.ErrAuthOldRevision):
		return RefusedToken
	case errors.Is(cause, rpctypes.ErrPermissionDenied):
		return RefusedPermission
	}
	switch code {
	case codes.PermissionDenied: // of the client's authentication
		return RefusedUser
	case codes.Unauthenticated:
		return RefusedCredentials
	case codes.InvalidArgument:
		return RefusedRequest
	case codes.NotFound, codes.ResourceExhausted, codes.FailedPrecondition:
		return RefusedState
	case codes.OutOfRange, codes.Unimplemented, codes.AlreadyExists, codes.Aborted, codes.DataLoss:
		return RefusedByServer
	}
	return NotRefused
}

// Final reports whether the same request would be refused again, so that a caller gives up
// instead of trying again. What one server cannot do, a stale token, and credentials that
// cannot be read are not final: they are expected to come right by themselves.
func (r Refusal) Final() bool { return r >= RefusedUser }

// Access reports whether etcd refuses the user or the user's permission, or the credentials
// cannot be read: an operator has to mend it.
func (r Refusal) Access() bool { return r >= RefusedCredentials && r <= RefusedPermission }

// Content reports whether the content of the request is to blame: another request of
// the same user, with other keys or fewer of them, may succeed.
func (r Refusal) Content() bool { return r == RefusedPermission || r == RefusedRequest }
