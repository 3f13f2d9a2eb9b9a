package check

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"disc/discovery"
)

// grpcProber calls grpc.health.v1.Health/Check: passing when the answer is SERVING.
type grpcProber struct {
	address string // host:port
	service string // "" asks for the server as a whole
	timeout time.Duration
	options []grpc.DialOption
}

func newGRPCProber(spec discovery.CheckSpec, from network) *grpcProber {
	security := insecure.NewCredentials()
	if spec.TLS {
		security = credentials.NewTLS(&tls.Config{RootCAs: from.roots, MinVersion: tls.VersionTLS12})
	}
	return &grpcProber{
		address: spec.Address,
		service: spec.Service,
		timeout: time.Duration(spec.Timeout),
		options: []grpc.DialOption{
			grpc.WithTransportCredentials(security),
			grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
				return from.dialer.DialContext(ctx, "tcp", address)
			}),
			grpc.WithDisableServiceConfig(),
			grpc.WithUserAgent("disc-check"),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxBody)),
		},
	}
}

func (p *grpcProber) probe(ctx context.Context) result {
	// A connection for each probe: a kept one hides that nobody listens any more.
	// The address goes to the dialer as it is, past gRPC's resolvers and proxies.
	conn, err := grpc.NewClient("passthrough:///"+p.address, p.options...)
	if err != nil {
		return failure(ctx, p.target(), p.timeout, err)
	}
	defer conn.Close()
	answer, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: p.service})
	if err != nil {
		return failure(ctx, p.target(), p.timeout, explain(err))
	}
	result := result{discovery.Critical, fmt.Sprintf("%s: %s", p.target(), answer.GetStatus())}
	if answer.GetStatus() == healthpb.HealthCheckResponse_SERVING {
		result.status = discovery.Passing
	}
	return result
}

func (p *grpcProber) target() string {
	if p.service == "" {
		return "grpc health of " + p.address
	}
	return fmt.Sprintf("grpc health of %s at %s", p.service, p.address)
}

// explain turns a gRPC status into an error that says what it means here.
func explain(err error) error {
	switch s := status.Convert(err); s.Code() {
	case codes.DeadlineExceeded:
		return context.DeadlineExceeded
	case codes.Unimplemented:
		return errors.New("the server does not implement grpc.health.v1")
	case codes.NotFound:
		return errors.New("the server does not know the service")
	default:
		return fmt.Errorf("%s: %s", s.Code(), s.Message())
	}
}
