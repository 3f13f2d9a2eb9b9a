package etcd

import (
	"context"
	"errors"
	"slices"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"disc/discovery"
)

// Explain turns an error of a call to etcd into one that an operator can act on. It
// names the endpoints and the next step, and is a [discovery.ErrForbidden], a
// [discovery.ErrStorageFull] or a [discovery.ErrUnavailable]. Explain returns other errors,
// and nil, unchanged.
func Explain(endpoints []string, err error) error {
	at := named(endpoints)
	if e, ok := errors.AsType[*callError](err); ok && e.unavailable {
		return discovery.Errorf(discovery.ErrUnavailable, "%s", e.text)
	}
	code, cause := unwrap(err)
	switch {
	case err == nil:
		return nil
	case errors.Is(cause, rpctypes.ErrAuthFailed):
		return discovery.Errorf(discovery.ErrForbidden, "%s: authentication failed: invalid user name or password", at)
	case errors.Is(cause, rpctypes.ErrUserEmpty):
		return discovery.Errorf(discovery.ErrForbidden, "%s requires a user; give --user and --password-file, or a client certificate", at)
	case errors.Is(cause, rpctypes.ErrPermissionDenied):
		return discovery.Errorf(discovery.ErrForbidden, "%s: %s", at, explainDenied(cause))
	case Refused(cause).Access():
		return discovery.Errorf(discovery.ErrForbidden, "%s", status.Convert(cause).Message())
	case errors.Is(cause, rpctypes.ErrNoSpace):
		return discovery.Errorf(discovery.ErrStorageFull, "%s is out of space: compact, defragment and disarm its NOSPACE alarm (etcdctl alarm list)", at)
	case lacksQuorum(cause):
		return discovery.Errorf(discovery.ErrUnavailable, "%s has no quorum (%s); are most of its members running and connected?", at, cause)
	case errors.Is(err, context.DeadlineExceeded), code == codes.DeadlineExceeded:
		return discovery.Errorf(discovery.ErrUnavailable, "%s did not answer in time; %s", at, askAll)
	case code == codes.Unavailable:
		return discovery.Errorf(discovery.ErrUnavailable, "%s cannot be reached: %s; %s", at, status.Convert(cause).Message(), askAll)
	}
	return err
}

// explainDenied says what a request needs, or where to find that if the request is not known.
func explainDenied(err error) string {
	if d, ok := errors.AsType[*denied](err); ok {
		return d.Error()
	}
	return "permission denied; grant the user's role read on the prefix of its namespace, and write on what it changes (docs/production.md)"
}

// lacksQuorum reports whether a member answered that it cannot reach a majority.
func lacksQuorum(err error) bool {
	return slices.Contains([]error{
		rpctypes.ErrNoLeader, rpctypes.ErrLeaderChanged, rpctypes.ErrTimeout, rpctypes.ErrTimeoutDueToLeaderFail,
		rpctypes.ErrTimeoutDueToConnectionLost, rpctypes.ErrTimeoutWaitAppliedIndex,
	}, err)
}

// unwrap returns the gRPC code of an error and the error of etcd or gRPC inside it. An
// error of etcd is a [rpctypes.EtcdError] whichever way it came.
func unwrap(err error) (codes.Code, error) {
	if d, ok := errors.AsType[*denied](err); ok {
		return codes.PermissionDenied, d
	}
	var grpc interface{ GRPCStatus() *status.Status }
	if errors.As(err, &grpc) {
		err = rpctypes.Error(grpc.GRPCStatus().Err())
	}
	if etcd, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		return etcd.Code(), etcd
	}
	if err == nil {
		return codes.OK, nil
	}
	code := status.Code(err)
	if code == codes.Unknown && status.Convert(err).Message() == context.DeadlineExceeded.Error() {
		code = codes.DeadlineExceeded // of a grpc-proxy of etcd 3.4 whose own request had no answer
	}
	return code, err
}
