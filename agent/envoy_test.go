package agent_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"

	"disc/config"
	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
)

const endpointsType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"

// withGRPC returns settings with gRPC on a free port.
func withGRPC(t *testing.T, etcd string) *config.Config {
	t.Helper()
	return settings(t, etcd, "zone: a\ngrpc: {listen: \"127.0.0.1:0\"}\n")
}

// count returns how many endpoints a response has for web.
func count(t *testing.T, r *discoveryv3.DiscoveryResponse) int {
	t.Helper()
	if len(r.Resources) != 1 {
		t.Fatalf("got %v", r)
	}
	var a endpointv3.ClusterLoadAssignment
	if err := r.Resources[0].UnmarshalTo(&a); err != nil {
		t.Fatal(err)
	}
	if err := a.ValidateAll(); err != nil || a.ClusterName != "web" {
		t.Errorf("%v: %v", err, &a)
	}
	n := 0
	for _, l := range a.Endpoints {
		if l.Locality.Zone != "a" {
			t.Errorf("locality %v", l.Locality)
		}
		n += len(l.LbEndpoints)
	}
	return n
}

func TestEnvoyStream(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := start(t, withGRPC(t, etcd.Endpoint()))
	conn, err := grpc.NewClient(a.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx := etcdtest.Context(t)
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&discoveryv3.DiscoveryRequest{TypeUrl: endpointsType, ResourceNames: []string{"web"}}); err != nil {
		t.Fatal(err)
	}
	wants := func(want int) { // there may be versions in between
		t.Helper()
		for n := -1; n != want; {
			got, err := stream.Recv()
			if err != nil {
				t.Fatalf("after %d endpoints, and waiting for %d: %v", n, want, err)
			}
			n = count(t, got)
		}
	}
	wants(0)
	for n := range 2 {
		if _, err := a.api.Register(ctx, discovery.Registration{Service: "web", ID: fmt.Sprint("web-", n), Port: 80 + n}); err != nil {
			t.Fatal(err)
		}
		wants(n + 1)
	}
	if _, err := a.api.Deregister(ctx, "web", "web-0"); err != nil {
		t.Fatal(err)
	}
	wants(1)
}

func TestEnvoyREST(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := start(t, settings(t, etcd.Endpoint(), "zone: a\n"))
	if a.GRPCAddr() != "" {
		t.Errorf("gRPC on %s, and nobody asked for it", a.GRPCAddr())
	}
	if _, err := a.api.Register(t.Context(), discovery.Registration{Service: "web", ID: "web-1", Port: 80}); err != nil {
		t.Fatal(err)
	}
	a.answers(t, "web", 1)
	ask := func(version string, want int) *discoveryv3.DiscoveryResponse {
		t.Helper()
		answer := &discoveryv3.DiscoveryResponse{}
		body, err := protojson.Marshal(&discoveryv3.DiscoveryRequest{VersionInfo: version, TypeUrl: endpointsType, ResourceNames: []string{"web"}})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.Post("http://"+a.Addr().String()+"/v3/discovery:endpoints", "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != want {
			t.Fatalf("%v: %s, want %d: %s", err, resp.Status, want, b)
		}
		if want == http.StatusOK {
			if err := protojson.Unmarshal(b, answer); err != nil {
				t.Fatal(err)
			}
		}
		return answer
	}
	got := ask("", http.StatusOK)
	if n := count(t, got); n != 1 {
		t.Errorf("%d endpoints, want 1", n)
	}
	ask(got.VersionInfo, http.StatusNotModified)
}
