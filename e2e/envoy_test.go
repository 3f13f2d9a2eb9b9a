package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	edsv3 "github.com/envoyproxy/go-control-plane/envoy/service/endpoint/v3"
	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

const endpointType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"

// runEnvoyClient runs 'envoyclient ADDRESS CLUSTER' or 'envoyclient FILE', which subscribes to the
// endpoints of a cluster as Envoy does, with Envoy's configuration if there is a file. It
// acknowledges each version and writes its endpoints.
func runEnvoyClient() {
	node := &corev3.Node{Id: "envoy-1", Cluster: "edge"}
	var address, cluster string
	var err error
	if len(os.Args) > 2 {
		address, cluster = os.Args[1], os.Args[2]
	} else {
		node, address, cluster, err = readEnvoyConfig(os.Args[1])
	}
	if err == nil {
		err = subscribe(node, address, cluster)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func subscribe(node *corev3.Node, address, cluster string) error {
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
		Node: node, TypeUrl: endpointType, ResourceNames: []string{cluster},
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
	node, address, cluster, err := readEnvoyConfig("../deploy/envoy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if node.Id == "" || address != "127.0.0.1:18000" || cluster != "web" {
		t.Errorf("node %v gets the endpoints of %s from %s, want web from 127.0.0.1:18000", node, cluster, address)
	}
}

// readEnvoyConfig reads a file of Envoy's configuration whose first cluster gets its endpoints from
// the second one, the agent. It returns the agent's address, and what Envoy tells and asks there.
func readEnvoyConfig(file string) (node *corev3.Node, address, cluster string, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, "", "", err
	}
	var bootstrap struct {
		Node   any
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
	if err := yaml.Unmarshal(text, &bootstrap); err != nil {
		return nil, "", "", err
	}
	web, disc := bootstrap.Static.Clusters[0], bootstrap.Static.Clusters[1]
	node = &corev3.Node{}
	var source corev3.ConfigSource
	var agent endpointv3.ClusterLoadAssignment
	if err := errors.Join(decode(bootstrap.Node, node), decode(web.EDS.Config, &source), decode(disc.Assignment, &agent)); err != nil {
		return nil, "", "", err
	}
	if by := source.GetApiConfigSource().GrpcServices[0].GetEnvoyGrpc().ClusterName; by != disc.Name || agent.ClusterName != by {
		return nil, "", "", fmt.Errorf("the cluster %s gets its endpoints from the cluster %q, want %q", web.Name, by, disc.Name)
	}
	at := agent.Endpoints[0].LbEndpoints[0].GetEndpoint().GetAddress().GetSocketAddress()
	return node, net.JoinHostPort(at.GetAddress(), strconv.Itoa(int(at.GetPortValue()))), web.Name, nil
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
