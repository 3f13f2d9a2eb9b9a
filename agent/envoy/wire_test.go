package envoy

import (
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// compare compares the messages of this package by their fields.
var compare = cmp.Options{
	cmp.AllowUnexported(request{}, deltaRequest{}, head{}),
	cmpopts.EquateEmpty(),
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// node returns the Node of an Envoy, with many fields that this package skips.
func node(t testing.TB) *corev3.Node {
	t.Helper()
	meta, err := structpb.NewStruct(map[string]any{"a": 1.5, "b": []any{"c", true}})
	if err != nil {
		t.Fatal(err)
	}
	return &corev3.Node{Id: "envoy-1", Cluster: "edge", Metadata: meta, Locality: &corev3.Locality{Zone: "a"}, UserAgentName: "envoy"}
}

func TestRequestsAreRead(t *testing.T) {
	refused := &statuspb.Status{Code: 13, Message: "malformed IP address"}
	var got request
	err := got.decode(marshal(t, &discoveryv3.DiscoveryRequest{
		VersionInfo: "7", Node: node(t), ResourceNames: []string{"web", "", "db"}, TypeUrl: typeURL, ResponseNonce: "3", ErrorDetail: refused,
		ResourceLocators: []*discoveryv3.ResourceLocator{{Name: "other"}},
	}))
	want := request{head{"envoy-1", typeURL, "3", true, "malformed IP address"}, "7", []string{"web", "", "db"}}
	if diff := cmp.Diff(want, got, compare); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	var delta deltaRequest
	err = delta.decode(marshal(t, &discoveryv3.DeltaDiscoveryRequest{
		Node: node(t), TypeUrl: typeURL, ResourceNamesSubscribe: []string{"web"}, ResourceNamesUnsubscribe: []string{"db", "x"},
		InitialResourceVersions: map[string]string{"web": "1", "db": ""}, ResponseNonce: "4", ErrorDetail: &statuspb.Status{},
	}))
	wantDelta := deltaRequest{head{"envoy-1", typeURL, "4", true, ""}, []string{"web"}, []string{"db", "x"}, map[string]string{"web": "1", "db": ""}}
	if diff := cmp.Diff(wantDelta, delta, compare); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestBrokenRequests(t *testing.T) {
	for name, b := range map[string]string{
		"no tag":                "\x80",
		"field 0":               "\x02\x00",
		"cut off":               "\x0a\x05ab",
		"cut off in a number":   "\x38\x80",
		"cut off in the node":   "\x12\x03\x0a\x05a",
		"no UTF-8":              "\x1a\x01\xff",
		"no UTF-8 in the nonce": "\x2a\x01\xff",
		"an open group":         "\x0b",
	} {
		t.Run(name, func(t *testing.T) {
			var r request
			if err := r.decode([]byte(b)); err == nil {
				t.Errorf("%s was taken: %+v", name, r)
			}
		})
	}
	for name, b := range map[string]string{
		"cut off in a version": "\x2a\x03\x0a\x05a", "no UTF-8 in a version": "\x2a\x03\x12\x01\xff", "no UTF-8": "\x1a\x01\xff",
	} {
		t.Run(name, func(t *testing.T) {
			var r deltaRequest
			if err := r.decode([]byte(b)); err == nil {
				t.Errorf("delta: %s was taken: %+v", name, r)
			}
		})
	}
}

func TestResponsesAreWritten(t *testing.T) {
	f := shop(t)
	a := assignmentOf(f.snapshot(), "web", "")
	var got discoveryv3.DiscoveryResponse
	if err := proto.Unmarshal((&response{"7-a", []assignment{a, {Cluster: "none"}}, "2"}).appendTo(nil), &got); err != nil {
		t.Fatal(err)
	}
	if got.VersionInfo != "7-a" || got.TypeUrl != typeURL || got.Nonce != "2" || len(got.Resources) != 2 {
		t.Errorf("got %v", &got)
	}
	var inside endpointv3.ClusterLoadAssignment
	if err := got.Resources[0].UnmarshalTo(&inside); err != nil || !proto.Equal(&inside, envoys(t, a)) {
		t.Errorf("%v: got %v", err, &inside)
	}
	var delta discoveryv3.DeltaDiscoveryResponse
	if err := proto.Unmarshal((&deltaResponse{[]resource{{"8", a}}, []string{"x", "y"}, "3"}).appendTo(nil), &delta); err != nil {
		t.Fatal(err)
	}
	if delta.TypeUrl != typeURL || delta.Nonce != "3" || !cmp.Equal(delta.RemovedResources, []string{"x", "y"}) || len(delta.Resources) != 1 {
		t.Fatalf("got %v", &delta)
	}
	one := delta.Resources[0]
	inside.Reset()
	if err := one.Resource.UnmarshalTo(&inside); err != nil || !proto.Equal(&inside, envoys(t, a)) || one.Name != "web" || one.Version != "8" {
		t.Errorf("%v: got %v", err, one)
	}
}

// FuzzRequest checks that any bytes decode as with Envoy's own types.
func FuzzRequest(f *testing.F) {
	f.Add(marshal(f, &discoveryv3.DiscoveryRequest{
		VersionInfo: "7", Node: node(f), ResourceNames: []string{"web"}, TypeUrl: typeURL, ResponseNonce: "3", ErrorDetail: &statuspb.Status{Message: "no"},
	}))
	f.Add([]byte("\x1a\x01\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var got request
		err := got.decode(b)
		var same discoveryv3.DiscoveryRequest
		if sameErr := proto.Unmarshal(b, &same); sameErr != nil {
			return // the generated types decode fields that this package skips
		}
		if err != nil {
			t.Fatalf("%x: %v, and Envoy's types read %v", b, err, &same)
		}
		if got.version != same.VersionInfo || got.typeURL != same.TypeUrl || got.nonce != same.ResponseNonce ||
			got.nack != (same.ErrorDetail != nil) || !cmp.Equal(got.names, same.ResourceNames, cmpopts.EquateEmpty()) {
			t.Errorf("%x: %+v, and Envoy's types read %v", b, got, &same)
		}
	})
}

func FuzzDeltaRequest(f *testing.F) {
	f.Add(marshal(f, &discoveryv3.DeltaDiscoveryRequest{
		Node: node(f), TypeUrl: typeURL, ResourceNamesSubscribe: []string{"web"}, ResourceNamesUnsubscribe: []string{"db"},
		InitialResourceVersions: map[string]string{"web": "1"}, ResponseNonce: "3", ErrorDetail: &statuspb.Status{Message: "no"},
	}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var got deltaRequest
		err := got.decode(b)
		var same discoveryv3.DeltaDiscoveryRequest
		if sameErr := proto.Unmarshal(b, &same); sameErr != nil {
			return
		}
		if err != nil {
			t.Fatalf("%x: %v, and Envoy's types read %v", b, err, &same)
		}
		if got.typeURL != same.TypeUrl || got.nonce != same.ResponseNonce || got.nack != (same.ErrorDetail != nil) ||
			!cmp.Equal(got.subscribe, same.ResourceNamesSubscribe, cmpopts.EquateEmpty()) ||
			!cmp.Equal(got.unsubscribe, same.ResourceNamesUnsubscribe, cmpopts.EquateEmpty()) ||
			!cmp.Equal(got.versions, same.InitialResourceVersions, cmpopts.EquateEmpty()) {
			t.Errorf("%x: %+v, and Envoy's types read %v", b, got, &same)
		}
	})
}
