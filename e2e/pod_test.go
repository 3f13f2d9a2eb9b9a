package e2e_test

import (
	"fmt"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"go.yaml.in/yaml/v3"
)

// podConfig has the parts of a Kubernetes pod that concern the agent.
type podConfig struct {
	Spec struct {
		DNSPolicy string `yaml:"dnsPolicy"`
		DNSConfig struct {
			Nameservers, Searches []string
			Options               []struct{ Name, Value string }
		} `yaml:"dnsConfig"`
		Containers []struct {
			Name string
			Args []string
		}
	}
}

// resolvConf returns the resolv.conf that the kubelet writes for a pod of the policy None.
func (p *podConfig) resolvConf() string {
	var b strings.Builder
	fmt.Fprintf(&b, "search %s\n", strings.Join(p.Spec.DNSConfig.Searches, " "))
	for _, server := range p.Spec.DNSConfig.Nameservers {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	for _, option := range p.Spec.DNSConfig.Options {
		fmt.Fprintf(&b, "options %s:%s\n", option.Name, option.Value)
	}
	return b.String()
}

// pod FILE writes the resolv.conf of the pod that is a file's first document, and the arguments of
// each container to NAME.args, one on a line.
func podCommand(ts *testscript.TestScript, _ bool, args []string) {
	var pod podConfig
	ts.Check(yaml.Unmarshal([]byte(ts.ReadFile(args[0])), &pod))
	ts.Check(os.WriteFile(ts.MkAbs("resolv.conf"), []byte(pod.resolvConf()), 0o644))
	for _, c := range pod.Spec.Containers {
		ts.Check(os.WriteFile(ts.MkAbs(c.Name+".args"), []byte(strings.Join(c.Args, "\n")), 0o644))
	}
}
