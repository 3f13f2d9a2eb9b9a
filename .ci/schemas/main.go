// Program schemas decodes the files of the folder deploy for Envoy and Kubernetes, neither of which
// runs here, into their own types. It rejects unknown fields, and validates Envoy's values.
//
//	schemas FOLDER
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func main() {
	if err := errors.Join(checkEnvoy(filepath.Join(os.Args[1], "envoy.yaml")), checkKubernetes(filepath.Join(os.Args[1], "kubernetes.yaml"))); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// overREST matches the source without gRPC, which a comment of envoy.yaml has.
var overREST = regexp.MustCompile(`(?m)^#\s+(api_config_source: .*REST.*)$`)

func checkEnvoy(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	comment := overREST.FindSubmatch(text)
	if comment == nil {
		return fmt.Errorf("%s: no comment has a source over REST", file)
	}
	var bootstrap bootstrapv3.Bootstrap
	var source corev3.ConfigSource
	if err := errors.Join(decode(text, &bootstrap), decode(comment[1], &source)); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	var proxy tcpproxyv3.TcpProxy
	filter := bootstrap.StaticResources.Listeners[0].FilterChains[0].Filters[0]
	if err := errors.Join(filter.GetTypedConfig().UnmarshalTo(&proxy), proxy.ValidateAll()); err != nil {
		return fmt.Errorf("%s: %s: %w", file, filter.Name, err)
	}
	if cluster := bootstrap.StaticResources.Clusters[0].Name; proxy.GetCluster() != cluster {
		return fmt.Errorf("%s: the listener's cluster is %s, want %s", file, proxy.GetCluster(), cluster)
	}
	return nil
}

// decode decodes YAML into a message, and validates it.
func decode(text []byte, to interface {
	proto.Message
	ValidateAll() error
}) error {
	asJSON, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return err
	}
	return errors.Join(protojson.Unmarshal(asJSON, to), to.ValidateAll())
}

func checkKubernetes(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	objects := []any{&corev1.Pod{}, &corev1.ConfigMap{}}
	documents := bytes.Split(text, []byte("\n---\n"))
	if len(documents) != len(objects) {
		return fmt.Errorf("%s: %d objects, want %d", file, len(documents), len(objects))
	}
	for n, document := range documents {
		if err := yaml.UnmarshalStrict(document, objects[n]); err != nil {
			return fmt.Errorf("%s: object %d: %w", file, n+1, err)
		}
	}
	return nil
}
