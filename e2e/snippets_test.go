package e2e_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"disc/config"
)

// TestDeployIsTested checks that a script uses each file of the folder deploy. For Envoy, a client
// of Envoy's own types reads the file.
func TestDeployIsTested(t *testing.T) {
	files, err := os.ReadDir("../deploy")
	if err != nil {
		t.Fatal(err)
	}
	scripts, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for _, name := range scripts {
		all = append(all, read(t, name)...)
	}
	for _, f := range files {
		if !bytes.Contains(all, []byte("\nshipped "+f.Name())) {
			t.Errorf("no script uses deploy/%s", f.Name())
		}
	}
}

// TestDeployYAML parses the YAML files, and loads an agent's settings from the arguments that
// kubernetes.yaml has.
func TestDeployYAML(t *testing.T) {
	var pod podConfig
	documents := yamlDocuments(t, "../deploy/kubernetes.yaml")
	if err := documents[0].Decode(&pod); err != nil {
		t.Fatal(err)
	}
	if pod.Spec.DNSPolicy != "None" || !slices.Contains(pod.Spec.DNSConfig.Searches, "disc") {
		t.Errorf("the pod's resolver: %+v", pod.Spec)
	}
	args := pod.Spec.Containers[1].Args
	flags := pflag.NewFlagSet("pod", pflag.ContinueOnError)
	config.AddFlags(flags, config.Global, config.Agent)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(t.Context(), flags, config.Host{Hostname: "n1", Env: func(string) (string, bool) { return "", false }})
	if err != nil {
		t.Fatal(err)
	}
	if args[0] != "agent" || cfg.DNS.Listen != pod.Spec.DNSConfig.Nameservers[0]+":53" {
		t.Errorf("%v: the agent listens on %s, but the pod asks %v", args, cfg.DNS.Listen, pod.Spec.DNSConfig.Nameservers)
	}

	var compose struct {
		Services map[string]struct{ DNS []string }
	}
	if err := yamlDocuments(t, "../deploy/compose.yaml")[0].Decode(&compose); err != nil {
		t.Fatal(err)
	}
	if len(compose.Services["shop"].DNS) != 2 {
		t.Errorf("the container's resolvers: %v", compose.Services)
	}
}

// TestDeployResolvers checks that the files of other resolvers have the agent's default address.
func TestDeployResolvers(t *testing.T) {
	listen := regexp.QuoteMeta("127.0.0.1:3453")
	for file, pattern := range map[string]string{
		"Corefile":        `(?m)^disc:53 \{\n(?: +.*\n)* +bufsize 1232\n(?: +.*\n)* +forward disc ` + listen + `\n\}$`,
		"dnsmasq.conf":    `(?m)^server=/disc/127\.0\.0\.1#3453\n(?:.*\n)*edns-packet-max=1232$`,
		"resolved.conf":   `(?m)^\[Resolve\]\nDNS=` + listen + `\nDomains=~disc\n`,
		"kubernetes.yaml": `(?m)^ +disc:53 \{\n(?: +.*\n)* +forward disc [0-9.]+:3453 `,
	} {
		t.Run(file, func(t *testing.T) {
			if text := read(t, "../deploy/"+file); !regexp.MustCompile(pattern).Match(text) {
				t.Errorf("deploy/%s does not match %s:\n%s", file, pattern, text)
			}
		})
	}
}

// severalServers matches what gives programs more than one name server.
var severalServers = regexp.MustCompile(`nameserver [^\n]+\n *nameserver |(?:nameservers|"?dns"?): ?\[[^],\n]+,`)

// TestSeveralServersWarnOfMusl checks that whatever advises more than one name server says that musl
// asks them all at once.
func TestSeveralServersWarnOfMusl(t *testing.T) {
	var files []string
	for _, pattern := range []string{"../README.md", "../docs/*.md", "../deploy/*", "../cli/*.go"} {
		some, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, some...)
	}
	found := 0
	for _, file := range files {
		text := read(t, file)
		if !severalServers.Match(text) {
			continue
		}
		found++
		if !bytes.Contains(text, []byte("musl, the C library of Alpine")) {
			t.Errorf("%s advises several name servers, and says nothing of musl", file)
		}
	}
	if found != 3 {
		t.Errorf("%d files advise several name servers, want asking.md, compose.yaml and kubernetes.yaml", found)
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func yamlDocuments(t *testing.T, file string) []yaml.Node {
	t.Helper()
	decoder := yaml.NewDecoder(bytes.NewReader(read(t, file)))
	var all []yaml.Node
	for {
		var n yaml.Node
		err := decoder.Decode(&n)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, n)
	}
}
