package envoy

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	endpointsvc "github.com/envoyproxy/go-control-plane/envoy/service/endpoint/v3"
	"github.com/prometheus/client_golang/prometheus"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// served is a server on a socket, with a client connection to it.
type served struct {
	*Server
	conn *grpc.ClientConn
	stop func() // ends the server and waits for it
}

func serve(t *testing.T, f *fleet, o ...grpc.DialOption) *served {
	t.Helper()
	return serveWith(t, f, Options{Domain: "disc."}, o...)
}

func serveWith(t *testing.T, f *fleet, options Options, o ...grpc.DialOption) *served {
	t.Helper()
	options.Registerer, options.Logger = prometheus.NewRegistry(), slog.New(slog.NewTextHandler(t.Output(), nil))
	s, err := New(f, options)
	if err != nil {
		t.Fatal(err)
	}
	return serveServer(t, s, o...)
}

func serveServer(t *testing.T, s *Server, o ...grpc.DialOption) *served {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	conn := connect(t, l.Addr().String(), o...)
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() {
		conn.Close()
		stop()
	})
	return &served{s, conn, stop}
}

// connect returns a client connection to an address, which is closed at the end of the test.
func connect(t *testing.T, address string, o ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, append(o, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// talk is a state-of-the-world stream of a client.
type talk struct {
	t      *testing.T
	stream grpc.BidiStreamingClient[discoveryv3.DiscoveryRequest, discoveryv3.DiscoveryResponse]
	cancel context.CancelFunc
	last   *discoveryv3.DiscoveryResponse
}

func (s *served) context(t *testing.T) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx, cancel
}

func (s *served) ads(t *testing.T) *talk {
	t.Helper()
	ctx, cancel := s.context(t)
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(s.conn).StreamAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &talk{t: t, stream: stream, cancel: cancel, last: &discoveryv3.DiscoveryResponse{}}
}

func (s *served) eds(t *testing.T) *talk {
	t.Helper()
	ctx, cancel := s.context(t)
	stream, err := endpointsvc.NewEndpointDiscoveryServiceClient(s.conn).StreamEndpoints(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &talk{t: t, stream: stream, cancel: cancel, last: &discoveryv3.DiscoveryResponse{}}
}

func (k *talk) send(r *discoveryv3.DiscoveryRequest) {
	k.t.Helper()
	if err := k.stream.Send(r); err != nil {
		k.t.Fatal(err)
	}
}

// ask asks for clusters, which also acknowledges the last response.
func (k *talk) ask(names ...string) {
	k.t.Helper()
	k.send(&discoveryv3.DiscoveryRequest{TypeUrl: typeURL, ResourceNames: names, VersionInfo: k.last.VersionInfo, ResponseNonce: k.last.Nonce})
}

// refuse sends a NACK of the last response.
func (k *talk) refuse(accepted string, names ...string) {
	k.t.Helper()
	k.send(&discoveryv3.DiscoveryRequest{
		TypeUrl: typeURL, ResourceNames: names, VersionInfo: accepted, ResponseNonce: k.last.Nonce,
		ErrorDetail: &statuspb.Status{Code: 13, Message: "malformed"},
	})
}

// next expects a response with exactly these clusters: each its name and its brief form.
func (k *talk) next(want ...string) {
	k.t.Helper()
	got, err := k.stream.Recv()
	if err != nil {
		k.t.Fatal(err)
	}
	if got.TypeUrl != typeURL || got.Nonce == k.last.Nonce || got.VersionInfo == k.last.VersionInfo {
		k.t.Errorf("response %v after %v", got, k.last)
	}
	k.last = got
	var all []string
	for _, r := range got.Resources {
		var a endpointv3.ClusterLoadAssignment
		if err := r.UnmarshalTo(&a); err != nil {
			k.t.Fatal(err)
		}
		all = append(all, a.ClusterName, brief(&a))
	}
	same(k.t, all, want)
}
