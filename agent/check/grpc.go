package check

import (
	"context"
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

// grpcProber calls grpc.health.v1.Health/Check: SERVING is passing, any other answer or error
// is critical.
type grpcProber struct {
	address string // host:port
	service string // "": the server as a whole
	timeout time.Duration
	options []grpc.DialOption
}

func newGRPCProber(spec discovery.CheckSpec, via network) *grpcProber {
	security := insecure.NewCredentials()
	if spec.TLS {
		host, _, _ := net.SplitHostPort(spec.Address) // it is valid
		security = credentials.NewTLS(newTLSConfig(spec, host, via))
	}
	return &grpcProber{
		address: spec.Address,
		service: spec.Service,
		timeout: time.Duration(spec.Timeout),
		options: []grpc.DialOption{
			grpc.WithTransportCredentials(security),
			grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
				return via.dialer.DialContext(ctx, "tcp", address)
			}),
			grpc.WithDisableServiceConfig(),
			grpc.WithUserAgent("disc-check"),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxBody)),
		},
	}
}

func (p *grpcProber) probe(ctx context.Context) result {
	// Each probe connects anew: a connection that is open already hides that nothing listens
	// any more. "passthrough" hands the address to the dialer, past gRPC's resolvers and
	// proxies.
	conn, err := grpc.NewClient("passthrough:///"+p.address, p.options...)
	if err != nil {
		return failure(ctx, p.description(), p.timeout, err)
	}
	defer conn.Close()
	answer, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: p.service})
	if err != nil {
		return failure(ctx, p.description(), p.timeout, explain(err))
	}
	result := result{discovery.Critical, fmt.Sprintf("%s: %s", p.description(), answer.GetStatus())}
	if answer.GetStatus() == healthpb.HealthCheckResponse_SERVING {
		result.status = discovery.Passing
	}
	return result
}

func (p *grpcProber) description() string {
	if p.service == "" {
		return "grpc health of " + p.address
	}
	return fmt.Sprintf("grpc health of %s at %s", p.service, p.address)
}

// explain turns a gRPC status into an error that says what it means for a health check.
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
