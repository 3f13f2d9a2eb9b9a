package check

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"disc/discovery"
)

// serveGRPC serves with the given health service, or with none.
func serveGRPC(t *testing.T, service healthpb.HealthServer) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	if service != nil {
		healthpb.RegisterHealthServer(s, service)
	}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return l.Addr().String()
}

// hungHealth answers only after the caller has canceled.
type hungHealth struct {
	healthpb.UnimplementedHealthServer
}

func (hungHealth) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestGRPC(t *testing.T) {
	service := health.NewServer()
	service.SetServingStatus("up", healthpb.HealthCheckResponse_SERVING)
	service.SetServingStatus("down", healthpb.HealthCheckResponse_NOT_SERVING)
	address := serveGRPC(t, service)
	for _, test := range []struct {
		address, service string
		tls              bool
		want             discovery.Status
		says             string
	}{
		{address, "", false, discovery.Passing, "SERVING"},
		{address, "up", false, discovery.Passing, "SERVING"},
		{address, "down", false, discovery.Critical, "NOT_SERVING"},
		{address, "other", false, discovery.Critical, "does not know the service"},
		{address, "", true, discovery.Critical, "tls"},
		{serveGRPC(t, nil), "", false, discovery.Critical, "does not implement grpc.health.v1"},
		{serveGRPC(t, hungHealth{}), "", false, discovery.Critical, "no answer within"},
		{"127.0.0.1:1", "", false, discovery.Critical, "connection refused"},
	} {
		t.Run(test.says, func(t *testing.T) {
			timeout := time.Minute
			if strings.Contains(test.says, "no answer") {
				timeout = 50 * time.Millisecond
			}
			r := probeOnce(t, discovery.CheckSpec{
				Type: discovery.CheckGRPC, Address: test.address, Service: test.service, TLS: test.tls,
				Timeout: discovery.Duration(timeout),
			})
			if r.status != test.want || !strings.Contains(r.output, test.says) {
				t.Errorf("%q of %s: got %+v, want %s, %q", test.service, test.address, r, test.want, test.says)
			}
		})
	}
}
