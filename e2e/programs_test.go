package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"disc/discovery/resolver"
)

// runServer runs 'server [HOST:]PORT [NAME]', a service that answers HTTP with its name until it is
// killed. It answers 503 while its directory has a file "sick".
func runServer() {
	name := "well"
	if len(os.Args) > 2 {
		name = os.Args[2]
	}
	address := os.Args[1]
	if !strings.Contains(address, ":") {
		address = "127.0.0.1:" + address
	}
	err := http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := os.Stat("sick"); err == nil {
			http.Error(w, "sick", http.StatusServiceUnavailable)
			return
		}
		if r.URL.Path == "/metrics" {
			w.Header().Set("Content-Type", "text/plain; version=0.0.4")
			fmt.Fprintln(w, "e2e_server_up 1")
			return
		}
		fmt.Fprintln(w, name)
	}))
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// grpcServer is the gRPC service of 'grpcserver PORT NAME'. It answers health checks with its
// name in the header.
type grpcServer struct {
	healthpb.UnimplementedHealthServer
	name string
}

func runGRPCServer() {
	l, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err == nil {
		s := grpc.NewServer()
		healthpb.RegisterHealthServer(s, grpcServer{name: os.Args[2]})
		err = s.Serve(l)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func (s grpcServer) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING},
		grpc.SetHeader(ctx, metadata.Pairs("name", s.name))
}

// The traffic of flow.
const (
	callers    = 4
	callEvery  = 4 * time.Millisecond // of each caller
	flowWindow = 60                   // the number of answers that show which servers take part
)

// flow is a client that calls a service continuously.
type flow struct {
	mu               sync.Mutex
	last             []string // the servers of the last answers
	shown            string   // the servers that were printed last
	answered, failed int
}

// runFlow runs 'flow http://HOST:PORT' or 'flow disc://AGENT/NAME' (gRPC, round robin). It
// writes the names of the answering servers whenever they change, and each failed call. On
// SIGTERM it writes the number of answered and of failed calls.
func runFlow() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	call := callHTTP(os.Args[1])
	if strings.HasPrefix(os.Args[1], resolver.Scheme+":") {
		var err error
		if call, err = callGRPC(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	var f flow
	var running sync.WaitGroup
	for range callers {
		running.Go(func() { f.run(ctx, call) })
	}
	running.Wait()
	fmt.Printf("%d answered, %d failed\n", f.answered, f.failed)
	os.Exit(0)
}

func (f *flow) run(ctx context.Context, call func(context.Context) (string, error)) {
	tick := time.NewTicker(callEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), waitTimeout)
		f.count(call(limited))
		cancel()
	}
}

func (f *flow) count(by string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.failed++
		fmt.Println("failed:", err)
		return
	}
	f.answered++
	f.last = append(f.last, by)
	if len(f.last) < flowWindow {
		return
	}
	f.last = f.last[len(f.last)-flowWindow:]
	who := map[string]bool{}
	for _, name := range f.last {
		who[name] = true
	}
	if now := strings.Join(slices.Sorted(maps.Keys(who)), " "); now != f.shown {
		f.shown = now
		fmt.Println("by", now)
	}
}

func callHTTP(url string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return "", err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = errors.New(resp.Status)
		}
		return strings.TrimSpace(string(b)), err
	}
}

func callGRPC(target string) (func(context.Context) (string, error), error) {
	conn, err := grpc.NewClient(target, grpc.WithResolvers(resolver.New(nil)),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	if err != nil {
		return nil, err
	}
	client := healthpb.NewHealthClient(conn)
	return func(ctx context.Context) (string, error) {
		var header metadata.MD
		_, err := client.Check(ctx, &healthpb.HealthCheckRequest{}, grpc.Header(&header))
		return strings.Join(header.Get("name"), ","), err
	}, nil
}
