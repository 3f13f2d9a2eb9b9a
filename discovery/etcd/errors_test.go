package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"disc/discovery"
	"disc/discovery/etcd"
)

func TestExplain(t *testing.T) {
	odd := errors.New("odd")
	for _, test := range []struct {
		err     error
		kind    error // nil: the error as it was
		says    string
		refused bool
	}{
		{nil, nil, "", false},
		{odd, nil, "", false},
		{rpctypes.ErrCompacted, nil, "", false},
		{context.Canceled, nil, "", false},
		{context.DeadlineExceeded, discovery.ErrUnavailable, "did not answer in time; is it running", false},
		{fmt.Errorf("list: %w", context.DeadlineExceeded), discovery.ErrUnavailable, "did not answer in time", false},
		{status.Error(codes.DeadlineExceeded, "x"), discovery.ErrUnavailable, "did not answer in time", false},
		{status.Error(codes.Unavailable, "connection refused"), discovery.ErrUnavailable, "cannot be reached: connection refused; is it running", false},
		{status.Error(codes.Unknown, "context deadline exceeded"), discovery.ErrUnavailable, "did not answer in time", false},
		{status.Error(codes.Unknown, "etcdserver: permission denied"), discovery.ErrForbidden, "permission denied; grant", true},
		{rpctypes.ErrNoLeader, discovery.ErrUnavailable, "has no quorum (etcdserver: no leader)", false},
		{rpctypes.ErrGRPCNoLeader, discovery.ErrUnavailable, "has no quorum (etcdserver: no leader)", false},
		{rpctypes.ErrTimeout, discovery.ErrUnavailable, "has no quorum", false},
		{rpctypes.ErrNoSpace, discovery.ErrStorageFull, "is out of space: compact", false},
		{fmt.Errorf("write: %w", rpctypes.ErrGRPCNoSpace), discovery.ErrStorageFull, "is out of space: compact", false},
		{rpctypes.ErrAuthFailed, discovery.ErrForbidden, "invalid user name or password", true},
		{rpctypes.ErrUserEmpty, discovery.ErrForbidden, "--user and --password-file", true},
		{rpctypes.ErrPermissionDenied, discovery.ErrForbidden, "permission denied; grant the user's role read on the prefix of its namespace", true},
		{fmt.Errorf("renew: %w", rpctypes.ErrGRPCPermissionDenied), discovery.ErrForbidden, "permission denied; grant the user's role read on the prefix of its namespace", true},
		{rpctypes.ErrInvalidAuthToken, nil, "", false},
		{rpctypes.ErrGRPCInvalidAuthToken, nil, "", false},
		{status.Error(codes.PermissionDenied, "etcd at a:1 refuses it"), discovery.ErrForbidden, "etcd at a:1 refuses it", true},
		{status.Error(codes.Unauthenticated, "no password at a:1"), discovery.ErrForbidden, "no password at a:1", true},
	} {
		t.Run(fmt.Sprint(test.err), func(t *testing.T) {
			got := etcd.Explain([]string{"a:1", "b:2"}, test.err)
			switch {
			case test.kind == nil && got != test.err:
				t.Errorf("got %v, want the error unchanged", got)
			case test.kind != nil && (!errors.Is(got, test.kind) || !strings.Contains(got.Error(), test.says) || !strings.Contains(got.Error(), "a:1")):
				t.Errorf("got %v, want %q, %v", got, test.says, test.kind)
			}
			if raw, explained := etcd.Refused(test.err).Access(), etcd.Refused(got).Access(); raw != test.refused || explained != test.refused {
				t.Errorf("access refused: %v, explained: %v, want %v", raw, explained, test.refused)
			}
		})
	}
}

func TestDialRefusesNoEndpoints(t *testing.T) {
	if _, err := etcd.Dial(t.Context(), etcd.Config{}); err == nil {
		t.Error("no error")
	}
}
