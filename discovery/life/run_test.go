package life

import (
	"context"
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// A connection that has broken is no outage: a member answers over the next one.
func TestProbeAfterABreak(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	link := etcdtest.StartLink(t, etcd.Endpoint())
	l := newLife(t, etcdtest.Client(t, link.Endpoint()))
	kv := pb.NewKVClient(l.client.ActiveConnection())
	silent := 0
	for range 20 {
		if _, err := kv.Range(etcdtest.Context(t), &pb.RangeRequest{Key: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		link.Cut()
		asked := time.Now()
		if !l.probe(t.Context()) && time.Since(asked) < probeTimeout { // a busy machine may take longer to connect
			silent++
		}
	}
	if silent > 5 {
		t.Errorf("no member answers after %d of 20 breaks", silent)
	}
	retrytest.Eventually(t, "a member answers", func() bool { return l.probe(t.Context()) })
}

// A call that hung was not answered, also where clientv3 has replaced the error of gRPC.
func TestAnswered(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{nil, true}, {rpctypes.ErrGRPCNoLeader, true}, {rpctypes.ErrNoLeader, true}, {rpctypes.ErrPermissionDenied, true},
		{status.Error(codes.Unavailable, "connection refused"), false}, {status.Error(codes.DeadlineExceeded, ""), false},
		{context.DeadlineExceeded, false}, {context.Canceled, false}, {fmt.Errorf("read: %w", context.DeadlineExceeded), false},
	} {
		if got := answered(tt.err); got != tt.want {
			t.Errorf("%v: answered %t", tt.err, got)
		}
	}
}
