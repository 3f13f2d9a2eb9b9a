package envoy

import (
	"errors"
	"strings"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"disc/discovery"
)

// fetch sends a request and decodes the response with Envoy's types; nil: nothing has changed.
func fetch(t *testing.T, s *Server, f *fleet, r *discoveryv3.DiscoveryRequest, o protojson.MarshalOptions) *discoveryv3.DiscoveryResponse {
	t.Helper()
	body, err := o.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	b, unchanged, err := s.Endpoints(f.snapshot(), body)
	if err != nil {
		t.Fatal(err)
	}
	if unchanged {
		return nil
	}
	var got discoveryv3.DiscoveryResponse
	if err := protojson.Unmarshal(b, &got); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return &got
}

func TestREST(t *testing.T) {
	f := pair(t)
	s, err := New(f, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []protojson.MarshalOptions{{}, {UseProtoNames: true}} {
		r := &discoveryv3.DiscoveryRequest{Node: node(t), TypeUrl: typeURL, ResourceNames: []string{"web", "db"}}
		got := fetch(t, s, f, r, o)
		var first endpointv3.ClusterLoadAssignment
		if len(got.Resources) != 2 || got.Resources[0].UnmarshalTo(&first) != nil || first.ClusterName != "db" || brief(&first) != one {
			t.Errorf("got %v", got)
		}
		r.VersionInfo = got.VersionInfo
		if again := fetch(t, s, f, r, o); again != nil {
			t.Errorf("nothing has changed, and the answer is %v", again)
		}
		r.ResourceNames = []string{"web"} // with the version of both
		if got = fetch(t, s, f, r, o); got == nil || len(got.Resources) != 1 {
			t.Errorf("got %v", got)
		}
		f.put(t, "web/instances/web-1", `"port":1`)
		r.VersionInfo = got.VersionInfo
		if got = fetch(t, s, f, r, o); got == nil {
			t.Error("a change was not sent")
		}
	}
	if got := fetch(t, s, f, &discoveryv3.DiscoveryRequest{}, protojson.MarshalOptions{}); len(got.Resources) != 2 {
		t.Errorf("without names: %v", got)
	}
	if got := fetch(t, s, newFleet(t), &discoveryv3.DiscoveryRequest{}, protojson.MarshalOptions{}); len(got.Resources) != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

func TestRESTRefuses(t *testing.T) {
	f := pair(t)
	s, err := New(f, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]string{
		"":                                     "no DiscoveryRequest",
		"null":                                 "no DiscoveryRequest",
		"[]":                                   "no DiscoveryRequest",
		`{"resource_names":["web"]} x`:         "no DiscoveryRequest",
		`{"resource_names":"web"}`:             `field "resource_names"`,
		`{"versionInfo":7}`:                    `field "versionInfo"`,
		`{"type_url":"type.googleapis.com/x"}`: "is not served here",
		`{"resource_names":[` + strings.Repeat(`"web",`, MaxClusters) + `"web"]}`: "10001 clusters are too many",
	} {
		t.Run(want, func(t *testing.T) {
			if _, _, err := s.Endpoints(f.snapshot(), []byte(body)); !errors.Is(err, discovery.ErrInvalid) || !strings.Contains(err.Error(), want) {
				t.Errorf("%.60s: %v, want %q", body, err, want)
			}
		})
	}
}
