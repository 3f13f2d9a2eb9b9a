package resolver_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	grpcresolver "google.golang.org/grpc/resolver"

	"disc/discovery"
	"disc/discovery/catalog"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/entry"
	"disc/discovery/lookup"
	"disc/discovery/resolver"
	"disc/discovery/retry/retrytest"
)

func TestMain(m *testing.M) { etcdtest.Main(m) }

// server is a gRPC server that counts its calls.
type server struct {
	healthpb.UnimplementedHealthServer
	grpc  *grpc.Server
	port  int
	calls chan struct{}
}

func (s *server) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	select {
	case s.calls <- struct{}{}:
	default:
	}
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
}

func serve(t *testing.T) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{grpc: grpc.NewServer(), port: l.Addr().(*net.TCPAddr).Port, calls: make(chan struct{}, 1)}
	healthpb.RegisterHealthServer(s.grpc, s)
	go s.grpc.Serve(l)
	t.Cleanup(s.grpc.Stop)
	return s
}

// TestRoundRobinOverTheLiving dials a service of a catalog, and goes on calling while one of
// its instances deregisters.
func TestRoundRobinOverTheLiving(t *testing.T) {
	etcd := etcdtest.Start(t)
	client := etcdtest.Client(t, etcd.Endpoint())
	keys := discovery.NewKeys("default")
	c := etcdtest.Must(catalog.New(client, keys, catalog.Options{}))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { c.Run(ctx) })
	defer running.Wait()
	defer cancel()

	editor := entry.Editor{Client: client, Keys: keys}
	servers := []*server{serve(t), serve(t), serve(t)}
	for n, s := range servers {
		put(t, editor, fmt.Sprintf("web-%d", n), s.port)
	}
	conn := dial(t, "disc:///web", resolver.New(resolver.CatalogSource{Catalog: c}))
	call := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if _, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true)); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range servers {
		retrytest.Eventually(t, "the resolver reports it", func() bool { call(); return called(s) })
	}
	if _, err := editor.Remove(t.Context(), "web", "web-0", entry.Targets{Static: true}, entry.Options{}); err != nil {
		t.Fatal(err)
	}
	retrytest.Eventually(t, "the resolver reports it", func() bool { // no call reaches the deregistered instance
		called(servers[0])
		for range 12 {
			call()
		}
		return !called(servers[0])
	})
	servers[0].grpc.Stop()
	for range 50 {
		call()
	}
}

func put(t *testing.T, editor entry.Editor, id string, port int) {
	t.Helper()
	_, err := editor.PutStatic(t.Context(), "web", id, func(i discovery.Instance) (discovery.Instance, error) {
		i.Address, i.Port, i.Zone, i.Weight = "127.0.0.1", port, "a", 7
		return i, nil
	}, entry.Options{})
	if err != nil {
		t.Fatal(err)
	}
}

func dial(t *testing.T, target string, b grpcresolver.Builder) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithResolvers(b), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func called(s *server) bool {
	select {
	case <-s.calls:
		return true
	default:
		return false
	}
}

// client records the states and errors that a resolver reports to gRPC.
type client struct {
	grpcresolver.ClientConn
	states chan []string
	errors chan error
}

func (c *client) UpdateState(s grpcresolver.State) error {
	var all []string
	for _, e := range s.Endpoints {
		all = append(all, fmt.Sprintf("%s %d %s", e.Addresses[0].Addr, resolver.Weight(e), resolver.Zone(e)))
	}
	slices.Sort(all)
	c.states <- all
	return nil
}

func (c *client) ReportError(err error) {
	select {
	case c.errors <- err:
	default:
	}
}

func build(t *testing.T, target string, source resolver.Source) *client {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	c := &client{states: make(chan []string, 100), errors: make(chan error, 1)}
	r, err := resolver.New(source).Build(grpcresolver.Target{URL: *u}, c, grpcresolver.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return c
}

// script is a source that returns its answers one by one.
type script struct{ answers chan any }

func (s *script) Lookup(ctx context.Context, _ resolver.Query) (lookup.Answer, int64, error) {
	select {
	case a := <-s.answers:
		if err, ok := a.(error); ok {
			return lookup.Answer{}, 0, err
		}
		return a.(lookup.Answer), 1, nil
	case <-ctx.Done():
		return lookup.Answer{}, 0, ctx.Err()
	}
}

func (s *script) Wait(context.Context, resolver.Query, int64) error { return nil }

func TestErrorsEmptyNothing(t *testing.T) {
	s := &script{answers: make(chan any, 10)}
	one := lookup.Answer{Endpoints: []discovery.Endpoint{{ID: "web-1", Address: "::1", Port: 80, Weight: 3, Zone: "b"}}}
	s.answers <- one
	s.answers <- discovery.Errorf(discovery.ErrUnavailable, "away")
	s.answers <- lookup.Answer{}
	c := build(t, "disc:///web", s)
	if got := <-c.states; !slices.Equal(got, []string{"[::1]:80 3 b"}) {
		t.Errorf("first: %v", got)
	}
	if err := <-c.errors; !errors.Is(err, discovery.ErrUnavailable) {
		t.Errorf("second: %v", err)
	}
	if got := <-c.states; len(got) != 0 { // scaled to zero, as the source answered
		t.Errorf("third: %v", got)
	}
}

func TestAgentSource(t *testing.T) {
	changed := make(chan struct{})
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/lookup/v2.web" || r.URL.Query().Get("zone") != "a" || r.URL.Query().Get("prefer") != "zone" {
			t.Errorf("asked %s", r.URL)
		}
		index := 1
		if r.URL.Query().Get("index") == "1" {
			<-changed
		}
		select {
		case <-changed:
			index = 2
		default:
		}
		w.Header().Set("Disc-Index", strconv.Itoa(index))
		fmt.Fprintf(w, `{"name":"v2.web","endpoints":[{"id":"web-1","address":"10.0.0.%d","port":80,"weight":1}]}`, index)
		if r.URL.Query().Get("index") == "2" {
			<-r.Context().Done()
		}
	}))
	t.Cleanup(agent.Close)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	c := build(t, "disc://"+agent.Listener.Addr().String()+"/v2.web?zone=a&prefer=zone", nil)
	if got := <-c.states; !slices.Equal(got, []string{"10.0.0.1:80 1 "}) {
		t.Errorf("first: %v", got)
	}
	close(changed)
	if got := <-c.states; !slices.Equal(got, []string{"10.0.0.2:80 1 "}) {
		t.Errorf("second: %v", got)
	}
}

// TestAgentSourceSendsTheToken expects the token to go to this host, and nowhere in clear.
func TestAgentSourceSendsTheToken(t *testing.T) {
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer s3cret" {
			t.Errorf("Authorization %q", r.Header.Get("Authorization"))
		}
		w.Header().Set("Disc-Index", "1")
		fmt.Fprint(w, `{"endpoints":[]}`)
	}))
	t.Cleanup(agent.Close)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	if _, _, err := (&resolver.AgentSource{BaseURL: agent.URL, Token: "s3cret"}).Lookup(t.Context(), resolver.Query{Name: "web"}); err != nil {
		t.Error(err)
	}
	_, _, err := (&resolver.AgentSource{BaseURL: "http://192.0.2.1:1", Token: "s3cret"}).Lookup(t.Context(), resolver.Query{Name: "web"})
	if !errors.Is(err, discovery.ErrForbidden) || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("to another host: %v", err)
	}
}

// TestAgentSourceSaysWhyItIsRefused tests what is told of an agent that needs another token.
func TestAgentSourceSaysWhyItIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		status     int
		body, want string
	}{
		"no token":      {401, `{"detail":"this needs a token"}`, "answered 401 Unauthorized: this needs a token"},
		"another scope": {403, `{"detail":"it lacks scope \"read\""}`, `answered 403 Forbidden: it lacks scope "read"`},
		"not an agent":  {403, "<html>", "answered 403 Forbidden: it gives no reason; set Token"},
	} {
		t.Run(name, func(t *testing.T) {
			agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.body)
			}))
			t.Cleanup(agent.Close)
			_, _, err := (&resolver.AgentSource{BaseURL: agent.URL, HTTP: agent.Client()}).Lookup(t.Context(), resolver.Query{Name: "web"})
			if !errors.Is(err, discovery.ErrForbidden) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

// TestAgentSourceFollowsNoRedirect expects the token to go to the agent alone.
func TestAgentSourceFollowsNoRedirect(t *testing.T) {
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			t.Error("the redirect is followed")
		}
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	t.Cleanup(agent.Close)
	_, _, err := (&resolver.AgentSource{BaseURL: agent.URL, HTTP: agent.Client(), Token: "s3cret"}).Lookup(t.Context(), resolver.Query{Name: "web"})
	if !errors.Is(err, discovery.ErrUnavailable) || !strings.Contains(err.Error(), "307") {
		t.Errorf("%v", err)
	}
}

func TestTargetsThatAreRefused(t *testing.T) {
	for _, target := range []string{"disc:///", "disc:///web?color=red", "disc:///web?prefer=node", "disc:///web"} {
		t.Run(target, func(t *testing.T) {
			u, err := url.Parse(target)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := resolver.New(nil).Build(grpcresolver.Target{URL: *u}, &client{}, grpcresolver.BuildOptions{}); !errors.Is(err, discovery.ErrInvalid) {
				t.Errorf("%s: %v, want it refused", target, err)
			} else {
				t.Log(err)
			}
		})
	}
}
