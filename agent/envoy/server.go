package envoy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"disc/discovery"
	"disc/discovery/view"
)

// The limits of a server.
const (
	MaxConnections = 1024    // at once
	MaxStreams     = 1024    // of one connection at once: Envoy may open one a cluster
	MaxClusters    = 10_000  // that one stream or REST request asks for
	MaxRequest     = 1 << 20 // bytes of a request

	handshakeTimeout = 10 * time.Second // for a new connection to speak HTTP/2
	keepaliveTime    = 30 * time.Second // of silence, whether a connection is alive
	keepaliveTimeout = 10 * time.Second // for the answer to that
	minClientPing    = 5 * time.Second  // the least time between the client's own
	defaultShutdown  = 5 * time.Second  // for the streams to end when the server does
)

// Catalog is the local view of the fleet.
type Catalog interface {
	// View returns the newest snapshot, or an ErrUnavailable.
	View() (view.View, error)
	// Changed returns a channel that is closed at the next change of a service, known
	// or not; "" is any change. A reader takes the channel first and the view second.
	Changed(service string) <-chan struct{}
	// Has reports whether the view has parts, as far as they exist.
	Has(parts ...discovery.Scope) bool
	// Retain brings parts into the view, and keeps them there until release is called.
	// It does not wait.
	Retain(parts ...discovery.Scope) (release func())
}

// Options are the optional parts of a server. The zero value is useful.
type Options struct {
	Domain      string                // the DNS suffix that the names of clusters may have
	Limits      Limits                // answers Envoy's rate limit service; nil: nothing does
	Connections int                   // at once, more wait to be accepted; default MaxConnections
	Explain     func(error) error     // makes an error of Limits one to act on; nil: errors are sent as they are
	Registerer  prometheus.Registerer // gets the server's own metrics
	Logger      *slog.Logger          // default: discards
}

// Server answers Envoy. Its REST form, [Server.Endpoints], needs no listener.
type Server struct {
	catalog Catalog
	options Options
	log     *slog.Logger
	metrics *metrics

	shutdownTimeout time.Duration // for streams to end by themselves
}

// New returns a server. It fails for metrics that the registerer already has.
func New(catalog Catalog, o Options) (*Server, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Connections = cmp.Or(o.Connections, MaxConnections)
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	return &Server{catalog: catalog, options: o, log: o.Logger, metrics: m, shutdownTimeout: defaultShutdown}, nil
}

// Serve answers gRPC on a listener until ctx ends, and closes it. Then it ends the
// streams, for which Envoy goes on with what it has and connects again. It returns nil
// when ctx ended it.
//
// There is neither TLS nor a token: the listener is to be a loopback address.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	group, ctx := errgroup.WithContext(ctx)
	v := &serving{Server: s, stopping: ctx.Done()}
	defer v.readers.Wait()
	server := v.grpcServer()
	group.Go(func() error {
		err := server.Serve(netutil.LimitListener(l, v.options.Connections))
		if err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			return fmt.Errorf("serve grpc on %s: %w", l.Addr(), err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		late := time.AfterFunc(s.shutdownTimeout, server.Stop)
		defer late.Stop()
		server.GracefulStop()
		return nil
	})
	return group.Wait()
}

// serving is a server while it serves.
type serving struct {
	*Server
	stopping <-chan struct{}
	readers  sync.WaitGroup // those who wait for the requests on a stream
}

func (v *serving) grpcServer() *grpc.Server {
	s := grpc.NewServer(
		grpc.ForceServerCodecV2(codec{}),
		grpc.MaxConcurrentStreams(MaxStreams),
		grpc.MaxRecvMsgSize(MaxRequest),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minClientPing, PermitWithoutStream: true}),
	)
	s.RegisterService(service("envoy.service.discovery.v3.AggregatedDiscoveryService",
		method("StreamAggregatedResources", v.streamHandler(true, newSotwStream)),
		method("DeltaAggregatedResources", v.streamHandler(true, newDeltaStream))), nil)
	s.RegisterService(service("envoy.service.endpoint.v3.EndpointDiscoveryService",
		method("StreamEndpoints", v.streamHandler(false, newSotwStream)),
		method("DeltaEndpoints", v.streamHandler(false, newDeltaStream))), nil)
	if v.options.Limits != nil {
		s.RegisterService(v.rateLimitService(), nil)
	}
	return s
}

func service(name string, methods ...grpc.StreamDesc) *grpc.ServiceDesc {
	return &grpc.ServiceDesc{ServiceName: name, Streams: methods}
}

func method(name string, h grpc.StreamHandler) grpc.StreamDesc {
	return grpc.StreamDesc{StreamName: name, Handler: h, ServerStreams: true, ClientStreams: true}
}
