// Worker is a gRPC server that runs several times, on one or more hosts. It registers with the
// agent on its host, calls the other workers by name, and knows which worker a key belongs to.
//
//	go run -C e2e/example ./worker -id worker-1 -grpc 127.0.0.1:9001 -http 127.0.0.1:8001
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/catalog"
	"disc/discovery/etcd"
	"disc/discovery/resolver"
)

const service = "worker"

type worker struct {
	grpc_health_v1.UnimplementedHealthServer

	id      string
	agent   *api.Client      // registers this worker
	view    *catalog.Catalog // watches etcd
	workers grpc_health_v1.HealthClient
}

func main() {
	id := flag.String("id", "worker-1", "id of this worker")
	grpcAddress := flag.String("grpc", "127.0.0.1:9001", "address to serve gRPC")
	httpAddress := flag.String("http", "127.0.0.1:8001", "address to serve HTTP")
	agent := flag.String("agent", "http://127.0.0.1:3472", "URL of the agent")
	endpoint := flag.String("etcd", "127.0.0.1:2379", "address of etcd")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *id, *grpcAddress, *httpAddress, *agent, *endpoint); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, id, grpcAddress, httpAddress, agent, endpoint string) error {
	w := &worker{id: id}
	var err error
	if w.agent, err = api.NewClient(agent); err != nil {
		return err
	}

	client, err := etcd.Dial(ctx, etcd.Config{Endpoints: []string{endpoint}})
	if err != nil {
		return err
	}
	defer client.Close()
	w.view, err = catalog.New(client, discovery.NewKeys("default"), catalog.Options{})
	if err != nil {
		return err
	}

	conn, err := grpc.NewClient("disc:///"+service,
		grpc.WithResolvers(resolver.New(resolver.CatalogSource{Catalog: w.view})),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	w.workers = grpc_health_v1.NewHealthClient(conn)

	listener, err := net.Listen("tcp", grpcAddress)
	if err != nil {
		return err
	}
	grpcServer := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(grpcServer, w)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /owner/{key}", w.owner)
	mux.HandleFunc("GET /call", w.call)
	httpServer := &http.Server{Addr: httpAddress, Handler: mux}

	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { return w.view.Run(ctx) })
	parts.Go(func() error { return grpcServer.Serve(listener) })
	parts.Go(func() error { return ignoreClosed(httpServer.ListenAndServe()) })
	parts.Go(func() error {
		defer httpServer.Close()
		defer grpcServer.Stop()
		return w.register(ctx, discovery.Registration{Service: service, ID: id, Port: listener.Addr().(*net.TCPAddr).Port})
	})
	return parts.Wait()
}

// register keeps the worker registered until ctx ends. The agent deregisters a worker that
// died 10 s after its connection broke.
func (w *worker) register(ctx context.Context, r discovery.Registration) error {
	for {
		err := w.hold(ctx, r)
		switch {
		case ctx.Err() != nil && errors.Is(err, context.Canceled):
			return nil
		case ctx.Err() != nil, errors.Is(err, discovery.ErrInvalid), errors.Is(err, discovery.ErrConflict), errors.Is(err, discovery.ErrLost):
			return err // the same registration would be refused again, or somebody does not want it
		}
		log.Println("register again in a second:", err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// hold registers the worker until the agent is lost or ctx ends. At the end of ctx it
// deregisters the worker while it still holds it: later, another process could hold the id.
func (w *worker) hold(ctx context.Context, r discovery.Registration) error {
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, cancel) // ends the wait for the agent's answer
	held, err := w.agent.Hold(lasting, r)
	if err != nil {
		return err
	}
	defer held.Close()
	stop()
	lost := make(chan error, 1)
	go func() { lost <- held.Wait() }()
	select {
	case err := <-lost:
		return err
	case <-ctx.Done():
	}
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_, err = w.agent.Deregister(leave, r.Service, r.ID)
	return err
}

// owner answers with the id of the worker that a key belongs to. All workers give the same
// answer; when one leaves, only its keys move (rendezvous hashing).
func (w *worker) owner(response http.ResponseWriter, request *http.Request) {
	workers, err := w.view.Service(service)
	if err != nil {
		http.Error(response, err.Error(), http.StatusServiceUnavailable)
		return
	}
	owner, highest := "", uint64(0)
	for _, e := range workers.Eligible() {
		if score := score(e.ID, request.PathValue("key")); owner == "" || score > highest {
			owner, highest = e.ID, score
		}
	}
	if owner == "" {
		http.Error(response, "no worker is healthy", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprint(response, owner)
}

func score(id, key string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(key + "\x00" + id))
	x := h.Sum64() // its high bits hardly depend on the last bytes: mix them
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	return x ^ x>>32
}

// call calls one of the workers, in turn, and answers with its id.
func (w *worker) call(response http.ResponseWriter, request *http.Request) {
	var header metadata.MD
	_, err := w.workers.Check(request.Context(), &grpc_health_v1.HealthCheckRequest{}, grpc.Header(&header))
	if err != nil {
		http.Error(response, err.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprint(response, header.Get("worker")[0])
}

// Check implements the gRPC health service. The header says which worker answered.
func (w *worker) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	err := grpc.SetHeader(ctx, metadata.Pairs("worker", w.id))
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, err
}

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
