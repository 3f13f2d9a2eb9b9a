package envoy

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"disc/discovery"
)

// shop returns a fleet with every kind of instance that assignments distinguish.
func shop(t testing.TB) *fleet {
	return newFleet(t,
		"web/instances/b-2", `"address":"10.0.0.2","port":80,"zone":"b","weight":7`,
		"web/instances/a-2", `"address":"2001:db8::7","port":81,"zone":"a","tags":["v2"],"status":"warning"`,
		"web/instances/a-1", `"port":82,"ports":{"grpc":90},"zone":"a","tags":["v2"],"weight":3`,
		"web/instances/sick", `"address":"10.0.0.4","port":83,"zone":"c","status":"critical"`,
		"web/instances/tired", `"address":"10.0.0.5","port":84`,
		"web/overrides/tired", `"state":"drain"`,
		"web/instances/out", `"address":"10.0.0.6","port":85`,
		"web/overrides/out", `"state":"down"`,
		"web/instances/bye", `"address":"10.0.0.7","port":86,"leaving":true`,
		"web/instances/spare", `"address":"10.0.0.8","port":87,"weight":0`,
		"web/instances/bare", `"address":"10.0.0.9"`,
		"web/static/named", `"address":"web.example.com","port":88`,
		"spares/instances/s-1", `"port":1,"weight":0`,
		"spares/instances/s-2", `"port":2,"status":"critical"`,
		"sick/instances/x-1", `"port":1,"weight":0,"status":"critical"`,
		"sick/instances/x-2", `"port":2,"weight":5,"status":"critical"`,
		"gone/instances/g-1", `"port":1`,
		"a.b/instances/dotted", `"port":5`,
	)
}

// brief formats an assignment as "zone=weight: address health weight, …; …".
func brief(a *endpointv3.ClusterLoadAssignment) string {
	var zones []string
	for _, l := range a.Endpoints {
		var all []string
		for _, e := range l.LbEndpoints {
			at := e.GetEndpoint().Address.GetSocketAddress()
			all = append(all, fmt.Sprintf("%s %d %v %d", at.Address, at.GetPortValue(), e.HealthStatus, e.LoadBalancingWeight.GetValue()))
		}
		zones = append(zones, fmt.Sprintf("%s=%d: %s", l.Locality.Zone, l.LoadBalancingWeight.GetValue(), strings.Join(all, ", ")))
	}
	return strings.Join(zones, "; ")
}

// envoys decodes an assignment with Envoy's own types, which have their own rules.
func envoys(t testing.TB, a assignment) *endpointv3.ClusterLoadAssignment {
	t.Helper()
	var got, same endpointv3.ClusterLoadAssignment
	if err := proto.Unmarshal(a.appendTo(nil), &got); err != nil {
		t.Fatal(err)
	}
	if err := got.ValidateAll(); err != nil {
		t.Error(err)
	}
	if unknown := got.ProtoReflect().GetUnknown(); len(unknown) > 0 {
		t.Errorf("%s: fields that Envoy does not know: %x", a.Cluster, unknown)
	}
	b, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	if err := protojson.Unmarshal(b, &same); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	if diff := cmp.Diff(&got, &same, protocmp.Transform()); diff != "" {
		t.Errorf("%s: protobuf and JSON differ:\n%s", a.Cluster, diff)
	}
	return &got
}

func TestAssignment(t *testing.T) {
	f := shop(t)
	f.delete(t, "gone/instances/g-1")
	const (
		tired = "10.0.0.5 84 DRAINING 1"
		a1    = "10.0.0.1 82 HEALTHY 3"
		a2    = "2001:db8::7 81 DEGRADED 1"
	)
	for cluster, want := range map[string]string{
		"web":                      "=1: " + tired + "; a=4: " + a1 + ", " + a2 + "; b=7: 10.0.0.2 80 HEALTHY 7; c=1: 10.0.0.4 83 UNHEALTHY 1",
		"v2.web":                   "a=4: " + a1 + ", " + a2,
		"_grpc._tcp.web.svc":       "a=3: 10.0.0.1 90 HEALTHY 3",
		"_grpc._tcp.web.svc.disc.": "a=3: 10.0.0.1 90 HEALTHY 3",
		"_admin._tcp.web.svc":      "",
		"a-1.web.inst":             "a=3: " + a1,
		"sick.web.inst":            "c=1: 10.0.0.4 83 UNHEALTHY 1",
		"out.web.inst":             "",
		"spares":                   "=2: 10.0.0.1 1 HEALTHY 1, 10.0.0.1 2 UNHEALTHY 1",
		"sick":                     "=6: 10.0.0.1 1 UNHEALTHY 1, 10.0.0.1 2 UNHEALTHY 5",
		"a.b":                      "=1: 10.0.0.1 5 HEALTHY 1",
		"gone":                     "",
		"nosuch":                   "",
		"no such name":             "",
		"host-1.node":              "",
		"_services._dns-sd._udp":   "",
	} {
		t.Run(cluster, func(t *testing.T) {
			got := envoys(t, assignmentOf(f.snapshot(), cluster, "disc."))
			if got.ClusterName != cluster || brief(got) != want {
				t.Errorf("%s is %s\n%s\nwant\n%s", cluster, got.ClusterName, brief(got), want)
			}
		})
	}
}

func TestSuspectsAreDegraded(t *testing.T) {
	if got := healthOf(discovery.Endpoint{Status: discovery.Passing, Suspect: true}); got != degraded {
		t.Errorf("a suspect is %v", got)
	}
}

func TestVersion(t *testing.T) {
	f := newFleet(t, "web/instances/web-1", `"port":1`, "db/instances/db-1", `"port":1`)
	first := version(f.snapshot(), []string{"web", "db"}, "")
	if !strings.HasPrefix(first, "2-") {
		t.Errorf("version %s, want revision 2's", first)
	}
	f.put(t, "other/instances/o-1", `"port":1`)
	if again := version(f.snapshot(), []string{"web", "db"}, ""); again != first {
		t.Errorf("a neighbour's change made %s of %s", again, first)
	}
	seen := map[string]string{first: "first"}
	differs := func(why, v string) {
		t.Helper()
		if seen[v] != "" {
			t.Errorf("%s: %s, as %s", why, v, seen[v])
		}
		seen[v] = why
	}
	differs("fewer clusters, same newest", version(f.snapshot(), []string{"db"}, ""))
	differs("another tag", version(f.snapshot(), []string{"v1.db"}, ""))
	differs("yet another tag", version(f.snapshot(), []string{"v2.db"}, ""))
	differs("another epoch", version(f.snapshot().WithEpoch("e2"), []string{"web", "db"}, ""))
	f.put(t, "web/overrides/web-1", `"weight":5`)
	differs("an override", version(f.snapshot(), []string{"web", "db"}, ""))
	differs("before it is there", version(f.snapshot(), []string{"v1.late"}, ""))
	f.put(t, "late/instances/l-1", `"port":1`)
	differs("after it has come", version(f.snapshot(), []string{"v1.late"}, ""))
}
