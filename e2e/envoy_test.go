package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	edsv3 "github.com/envoyproxy/go-control-plane/envoy/service/endpoint/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

const endpointType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"

// runEnvoyClient runs 'envoyclient ADDRESS CLUSTER', which subscribes to the endpoints of a
// cluster as Envoy does. It acknowledges each version and writes its endpoints.
func runEnvoyClient() {
	err := subscribe(os.Args[1], os.Args[2])
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func subscribe(address, cluster string) error {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, err := edsv3.NewEndpointDiscoveryServiceClient(conn).StreamEndpoints(context.Background(), grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	request := &discoveryv3.DiscoveryRequest{
		Node: &corev3.Node{Id: "envoy-1", Cluster: "edge"}, TypeUrl: endpointType, ResourceNames: []string{cluster},
	}
	for {
		if err := stream.Send(request); err != nil {
			return err
		}
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, resource := range response.Resources {
			var assignment endpointv3.ClusterLoadAssignment
			if err := resource.UnmarshalTo(&assignment); err != nil {
				return err
			}
			fmt.Printf("%s: %s\n", assignment.ClusterName, strings.Join(endpointTexts(&assignment), ", "))
		}
		request.VersionInfo, request.ResponseNonce = response.VersionInfo, response.Nonce
	}
}

func endpointTexts(a *endpointv3.ClusterLoadAssignment) []string {
	var all []string
	for _, locality := range a.Endpoints {
		for _, e := range locality.LbEndpoints {
			at := e.GetEndpoint().GetAddress().GetSocketAddress()
			all = append(all, fmt.Sprintf("%s:%d %s %s", at.GetAddress(), at.GetPortValue(), e.HealthStatus, locality.GetLocality().GetZone()))
		}
	}
	slices.Sort(all)
	return all
}

// TestDeployEnvoy decodes the parts of deploy/envoy.yaml that concern the agent into Envoy's own
// types, which reject unknown fields.
func TestDeployEnvoy(t *testing.T) {
	var bootstrap struct {
		Static struct {
			Clusters []struct {
				Name string
				EDS  struct {
					Config any `yaml:"eds_config"`
				} `yaml:"eds_cluster_config"`
				Assignment any `yaml:"load_assignment"`
			}
		} `yaml:"static_resources"`
	}
	if err := yamlDocuments(t, "../deploy/envoy.yaml")[0].Decode(&bootstrap); err != nil {
		t.Fatal(err)
	}
	web, disc := bootstrap.Static.Clusters[0], bootstrap.Static.Clusters[1]
	var source corev3.ConfigSource
	var agent endpointv3.ClusterLoadAssignment
	if err := errors.Join(decode(web.EDS.Config, &source), decode(disc.Assignment, &agent)); err != nil {
		t.Fatal(err)
	}
	if by := source.GetApiConfigSource().GrpcServices[0].GetEnvoyGrpc().ClusterName; by != disc.Name || agent.ClusterName != by {
		t.Errorf("the cluster web gets its endpoints from the cluster %q, want %q", by, disc.Name)
	}
	if got := endpointTexts(&agent); !slices.Equal(got, []string{"127.0.0.1:18000 UNKNOWN "}) {
		t.Errorf("the agent's cluster has the endpoints %q", got)
	}
}

// decode converts decoded YAML to a message, and validates it.
func decode(from any, to interface {
	proto.Message
	Validate() error
}) error {
	text, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return errors.Join(protojson.Unmarshal(text, to), to.Validate())
}
