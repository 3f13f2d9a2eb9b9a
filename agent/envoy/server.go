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
	MaxConnections = 256       // open at once
	MaxStreams     = 128       // open at once on a connection: Envoy may open one for each cluster, and more connections
	MaxClusters    = 10_000    // in one stream or REST request
	MaxRequest     = 256 << 10 // bytes of a gRPC request
	MaxHeader      = 16 << 10  // bytes of the header of a gRPC request

	window           = 64 << 10         // bytes that a client may send unasked, on a stream and on a connection
	connectionBuffer = 8 << 10          // bytes, for reading and for writing
	handshakeTimeout = 10 * time.Second // for a new connection to finish the HTTP/2 handshake
	keepaliveTime    = 30 * time.Second // of silence before the server pings a connection
	keepaliveTimeout = 10 * time.Second // for the answer to a ping
	idleTime         = 5 * time.Minute  // of a connection without streams
	minClientPing    = 5 * time.Second  // the least time between a client's pings
	defaultShutdown  = 5 * time.Second  // for streams to end by themselves when the server stops
)

// Catalog is the local view of the fleet.
type Catalog interface {
	// View returns the newest snapshot; until there is one, an ErrUnavailable.
	View() (view.View, error)
	// Changed returns a channel that is closed at the next change of a service, known
	// or not; "" is any change. Take the channel before the view, or a change is missed.
	Changed(service string) <-chan struct{}
	// Has reports whether the view has read scopes, as far as they exist in etcd.
	Has(scopes ...discovery.Scope) bool
	// Retain brings scopes into the view, and keeps them there until release is called.
	// It does not block.
	Retain(scopes ...discovery.Scope) (release func())
}

// Options are the optional parts of a server. The zero value is useful.
type Options struct {
	Domain      string                // DNS suffix that cluster names may have
	Limits      Limits                // for Envoy's rate limit service; nil: it is not served
	Connections int                   // open at once, others wait to be accepted; default MaxConnections
	Explain     func(error) error     // makes an error of Limits one to act on; nil: errors are sent as they are
	Registerer  prometheus.Registerer // for the server's metrics; nil: they are not registered
	Logger      *slog.Logger          // default: discards
}

// Server is a control plane for Envoy's endpoints and rate limits. [Server.Endpoints], for
// REST, needs no listener.
type Server struct {
	catalog Catalog
	options Options
	log     *slog.Logger
	metrics *metrics

	shutdownTimeout time.Duration // default defaultShutdown
	bounds          bounds        // default defaultBounds
}

// New returns a server. It fails when the registerer refuses the metrics, as one that already
// has them does.
func New(catalog Catalog, o Options) (*Server, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Connections = cmp.Or(o.Connections, MaxConnections)
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	return &Server{catalog: catalog, options: o, log: o.Logger, metrics: m, shutdownTimeout: defaultShutdown, bounds: defaultBounds}, nil
}

// Serve answers gRPC on a listener until ctx ends, and closes the listener. At the end it ends
// the streams: Envoy keeps its endpoints and reconnects. It returns nil when ctx ended it.
//
// There is neither TLS nor a token: listen on a loopback address.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	group, ctx := errgroup.WithContext(ctx)
	v := newServing(s, ctx.Done())
	defer v.readers.Wait()
	server := v.grpcServer()
	group.Go(func() error {
		err := server.Serve(&trackingListener{netutil.LimitListener(l, v.options.Connections), v.unread})
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

// serving is the state of one call of Serve.
type serving struct {
	*Server
	stopping <-chan struct{}
	readers  sync.WaitGroup // of the goroutines that read requests

	streams, calls tally         // that are open
	names          tally         // bytes of cluster names, with nameOverhead for each
	unread         *unread       // responses
	building       chan struct{} // has one element for each response that is made
}

func newServing(s *Server, stopping <-chan struct{}) *serving {
	v := &serving{Server: s, stopping: stopping, unread: newUnread(s.bounds.unread, s.bounds.readTime, stopping), building: make(chan struct{}, maxBuilding)}
	v.streams.most, v.calls.most, v.names.most = s.bounds.streams, s.bounds.calls, s.bounds.names
	return v
}

func (v *serving) grpcServer() *grpc.Server {
	s := grpc.NewServer(
		grpc.ForceServerCodecV2(codec{}),
		grpc.MaxConcurrentStreams(MaxStreams),
		grpc.MaxRecvMsgSize(MaxRequest),
		grpc.MaxHeaderListSize(MaxHeader),
		grpc.StaticStreamWindowSize(window), // without them, windows grow to 16 MiB
		grpc.StaticConnWindowSize(window),
		grpc.ReadBufferSize(connectionBuffer),
		grpc.WriteBufferSize(connectionBuffer),
		grpc.InTapHandle(v.admit),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTime, Time: keepaliveTime, Timeout: keepaliveTimeout}),
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
