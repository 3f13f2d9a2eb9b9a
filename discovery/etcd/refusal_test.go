package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"disc/discovery"
	"disc/discovery/etcd"
)

func TestRefused(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		want etcd.Refusal
	}{
		{"nil", nil, etcd.NotRefused},
		{"another error", errors.New("odd"), etcd.NotRefused},
		{"deadline", context.DeadlineExceeded, etcd.NotRefused},
		{"canceled", context.Canceled, etcd.NotRefused},
		{"deadline of gRPC", status.Error(codes.DeadlineExceeded, "x"), etcd.NotRefused},
		{"canceled by gRPC", status.Error(codes.Canceled, "x"), etcd.NotRefused},
		{"unavailable", status.Error(codes.Unavailable, "connection refused"), etcd.NotRefused},
		{"internal", status.Error(codes.Internal, "stream broke"), etcd.NotRefused},
		{"no leader", rpctypes.ErrNoLeader, etcd.NotRefused},
		{"no leader of gRPC", rpctypes.ErrGRPCNoLeader, etcd.NotRefused},
		{"leader changed", rpctypes.ErrLeaderChanged, etcd.NotRefused},
		{"timeout", rpctypes.ErrTimeout, etcd.NotRefused},
		{"timeout of a leader that failed", rpctypes.ErrTimeoutDueToLeaderFail, etcd.NotRefused},
		{"stopped", rpctypes.ErrStopped, etcd.NotRefused},
		{"token", rpctypes.ErrInvalidAuthToken, etcd.RefusedToken},
		{"token of gRPC", rpctypes.ErrGRPCInvalidAuthToken, etcd.RefusedToken},
		{"token of an old revision", rpctypes.ErrAuthOldRevision, etcd.RefusedToken},
		{"credentials", status.Error(codes.Unauthenticated, "open password: no such file"), etcd.RefusedCredentials},
		{"password", rpctypes.ErrAuthFailed, etcd.RefusedUser},
		{"password, by the client", status.Error(codes.PermissionDenied, "etcd at a:1 refuses user"), etcd.RefusedUser},
		{"no user", rpctypes.ErrUserEmpty, etcd.RefusedUser},
		{"explained", discovery.Errorf(discovery.ErrForbidden, "x"), etcd.RefusedUser},
		{"permission", rpctypes.ErrPermissionDenied, etcd.RefusedPermission},
		{"permission of gRPC, wrapped", fmt.Errorf("write: %w", rpctypes.ErrGRPCPermissionDenied), etcd.RefusedPermission},
		{"too large", rpctypes.ErrRequestTooLarge, etcd.RefusedRequest},
		{"too many operations", rpctypes.ErrGRPCTooManyOps, etcd.RefusedRequest},
		{"empty key", rpctypes.ErrEmptyKey, etcd.RefusedRequest},
		{"compacted", rpctypes.ErrCompacted, etcd.RefusedByServer},
		{"unimplemented", status.Error(codes.Unimplemented, "unknown method"), etcd.RefusedByServer},
		{"no lease", rpctypes.ErrLeaseNotFound, etcd.RefusedState},
		{"no space", fmt.Errorf("write: %w", rpctypes.ErrNoSpace), etcd.RefusedState},
		{"too many requests", rpctypes.ErrTooManyRequests, etcd.RefusedState},
		{"corrupt", rpctypes.ErrCorrupt, etcd.RefusedByServer},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := etcd.Refused(test.err); got != test.want {
				t.Errorf("%v: got %d, want %d", test.err, got, test.want)
			}
		})
	}
}

func TestRefusalKinds(t *testing.T) {
	for _, test := range []struct {
		refusal                etcd.Refusal
		final, access, content bool
	}{
		{etcd.NotRefused, false, false, false},
		{etcd.RefusedByServer, false, false, false},
		{etcd.RefusedToken, false, false, false},
		{etcd.RefusedCredentials, false, true, false},
		{etcd.RefusedUser, true, true, false},
		{etcd.RefusedPermission, true, true, true},
		{etcd.RefusedRequest, true, false, true},
		{etcd.RefusedState, true, false, false},
	} {
		t.Run(fmt.Sprint(test.refusal), func(t *testing.T) {
			if r := test.refusal; r.Final() != test.final || r.Access() != test.access || r.Content() != test.content {
				t.Errorf("%d: final %v, access %v, content %v, want %v, %v, %v", r, r.Final(), r.Access(), r.Content(), test.final, test.access, test.content)
			}
		})
	}
}
