package etcd

import (
	"context"
	"errors"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"disc/discovery"
)

// Explain turns an error of a call to etcd into one that an operator can act on: it
// names the endpoints and the next thing to try, and is an
// [discovery.ErrUnavailable], [discovery.ErrForbidden] or what it was.
func Explain(endpoints []string, err error) error {
	at := "etcd at " + strings.Join(endpoints, ",")
	code, word := cause(err)
	switch {
	case err == nil:
		return nil
	case errors.Is(word, rpctypes.ErrAuthFailed):
		return discovery.Errorf(discovery.ErrForbidden, "%s: authentication failed: invalid user name or password", at)
	case errors.Is(word, rpctypes.ErrUserEmpty):
		return discovery.Errorf(discovery.ErrForbidden, "%s wants a user; give --user and --password-file, or a client certificate", at)
	case errors.Is(word, rpctypes.ErrPermissionDenied):
		return discovery.Errorf(discovery.ErrForbidden, "%s: permission denied; grant the user's role the keys under %s", at, discovery.Namespaces())
	case Refused(word):
		return discovery.Errorf(discovery.ErrForbidden, "%s", status.Convert(word).Message())
	case errors.Is(word, rpctypes.ErrNoSpace):
		return discovery.Errorf(discovery.ErrUnavailable, "%s is out of space: compact, defragment and disarm its NOSPACE alarm (etcdctl alarm list)", at)
	case lacksQuorum(word):
		return discovery.Errorf(discovery.ErrUnavailable, "%s has no quorum (%s); are most of its members running and connected?", at, word)
	case errors.Is(err, context.DeadlineExceeded), code == codes.DeadlineExceeded:
		return discovery.Errorf(discovery.ErrUnavailable, "%s did not answer in time; is it running, and are --endpoints and the TLS settings right?", at)
	case code == codes.Unavailable:
		return discovery.Errorf(discovery.ErrUnavailable, "%s cannot be reached: %s; is it running, and are --endpoints and the TLS settings right?",
			at, status.Convert(word).Message())
	}
	return err
}

// Refused reports whether etcd refuses the user or what the user may do, or the
// user's name and password cannot be read: an error that waiting does not mend.
func Refused(err error) bool {
	code, word := cause(err)
	return errors.Is(err, discovery.ErrForbidden) || errors.Is(word, rpctypes.ErrAuthFailed) || errors.Is(word, rpctypes.ErrUserEmpty) ||
		code == codes.PermissionDenied || code == codes.Unauthenticated && !errors.Is(word, rpctypes.ErrInvalidAuthToken)
}

// lacksQuorum reports whether a member answered that it could not reach the others.
func lacksQuorum(word error) bool {
	return slices.Contains([]error{
		rpctypes.ErrNoLeader, rpctypes.ErrLeaderChanged, rpctypes.ErrTimeout, rpctypes.ErrTimeoutDueToLeaderFail,
		rpctypes.ErrTimeoutDueToConnectionLost, rpctypes.ErrTimeoutWaitAppliedIndex,
	}, word)
}

// cause finds the code of an error and what etcd or gRPC said inside it. What etcd said is
// a [rpctypes.EtcdError] however it came.
func cause(err error) (codes.Code, error) {
	var said interface{ GRPCStatus() *status.Status }
	if errors.As(err, &said) {
		err = rpctypes.Error(said.GRPCStatus().Err())
	}
	var etcd rpctypes.EtcdError
	if errors.As(err, &etcd) {
		return etcd.Code(), etcd
	}
	if err == nil {
		return codes.OK, nil
	}
	return status.Code(err), err
}
