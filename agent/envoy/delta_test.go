package envoy

import (
	"slices"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	endpointsvc "github.com/envoyproxy/go-control-plane/envoy/service/endpoint/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// deltaTalk is an incremental stream.
type deltaTalk struct {
	t        *testing.T
	stream   grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]
	nonce    string
	versions map[string]string
}

func (s *served) delta(t *testing.T) *deltaTalk {
	t.Helper()
	ctx, _ := s.context(t)
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(s.conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &deltaTalk{t: t, stream: stream, versions: map[string]string{}}
}

func (s *served) deltaEDS(t *testing.T) *deltaTalk {
	t.Helper()
	ctx, _ := s.context(t)
	stream, err := endpointsvc.NewEndpointDiscoveryServiceClient(s.conn).DeltaEndpoints(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &deltaTalk{t: t, stream: stream, versions: map[string]string{}}
}

func (k *deltaTalk) send(r *discoveryv3.DeltaDiscoveryRequest) {
	k.t.Helper()
	r.TypeUrl = typeURL
	if err := k.stream.Send(r); err != nil {
		k.t.Fatal(err)
	}
}

func (k *deltaTalk) ask(subscribe ...string) {
	k.t.Helper()
	k.send(&discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: subscribe})
}

// next expects a response with exactly these clusters: each its name and its brief form, or
// "-name" if it is removed.
func (k *deltaTalk) next(want ...string) {
	k.t.Helper()
	got, err := k.stream.Recv()
	if err != nil {
		k.t.Fatal(err)
	}
	var all []string
	for _, r := range got.Resources {
		var a endpointv3.ClusterLoadAssignment
		if err := r.Resource.UnmarshalTo(&a); err != nil {
			k.t.Fatal(err)
		}
		if a.ClusterName != r.Name || r.Version == k.versions[r.Name] {
			k.t.Errorf("resource %v after version %s", r, k.versions[r.Name])
		}
		k.versions[r.Name] = r.Version
		all = append(all, r.Name, brief(&a))
	}
	for _, name := range got.RemovedResources {
		all = append(all, "-"+name)
	}
	same(k.t, all, want)
	if got.TypeUrl != typeURL || got.Nonce == k.nonce {
		k.t.Errorf("response %v after nonce %s", got, k.nonce)
	}
	k.nonce = got.Nonce
}

func TestDelta(t *testing.T) {
	for name, open := range map[string]func(*served, *testing.T) *deltaTalk{"ADS": (*served).delta, "EDS": (*served).deltaEDS} {
		t.Run(name, func(t *testing.T) {
			f := pair(t)
			s := serve(t, f)
			k := open(s, t)
			k.ask("web", "nosuch")
			k.next("nosuch", "", "web", two)
			k.send(&discoveryv3.DeltaDiscoveryRequest{ResponseNonce: k.nonce}) // an acknowledgement
			f.delete(t, "web/instances/web-2")
			k.next("web", one)
			k.send(&discoveryv3.DeltaDiscoveryRequest{ResponseNonce: k.nonce, ErrorDetail: &status.Status{Message: "no"}})
			k.ask("db")
			k.next("db", one) // and nothing that was refused
			if refused := value(t, s.metrics.nacks); refused != 1 {
				t.Errorf("%v refusals, want 1", refused)
			}
			k.send(&discoveryv3.DeltaDiscoveryRequest{ResourceNamesUnsubscribe: []string{"nosuch", "db"}})
			k.versions = map[string]string{}
			k.ask("web") // asked for again, it is sent again
			k.next("web", one)
			f.put(t, "db/instances/db-1", `"port":1,"weight":2`)
			f.put(t, "web/instances/web-2", `"port":2`)
			k.next("web", two)
		})
	}
}

func TestDeltaAllServices(t *testing.T) {
	f := pair(t)
	k := serve(t, f).delta(t)
	k.ask()
	k.next("db", one, "web", two)
	f.delete(t, "db/instances/db-1")
	k.next("-db")
	f.put(t, "new/instances/n-1", `"port":1`)
	k.next("new", one)
	k.send(&discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"new"}, ResourceNamesUnsubscribe: []string{"*"}})
	k.versions = map[string]string{}
	k.next("new", one, "-web")
}

// A client that reconnects sends the versions that it has, and gets what has changed since.
func TestDeltaAgain(t *testing.T) {
	f := pair(t)
	s := serve(t, f)
	k := s.delta(t)
	k.ask("db", "web")
	k.next("db", one, "web", two)
	versions := k.versions
	f.delete(t, "web/instances/web-2")
	k = s.delta(t)
	k.send(&discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"db", "web"}, InitialResourceVersions: versions})
	k.next("web", one)
}

func TestDeltaLimits(t *testing.T) {
	k := serve(t, pair(t)).delta(t)
	names := make([]string, 0, MaxClusters+1)
	for n := range MaxClusters + 1 {
		names = append(names, "c"+string(rune('a'+n%26))+string(rune('a'+n/26%26))+string(rune('a'+n/676)))
	}
	for part := range slices.Chunk(names, MaxClusters/2) {
		k.ask(part...)
	}
	for {
		if _, err := k.stream.Recv(); err != nil {
			wantCode(t, err, codes.ResourceExhausted, "10001 clusters are too many")
			return
		}
	}
}
