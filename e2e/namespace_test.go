package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// namespace is a Linux namespace for network and mounts: a host of its own, whose faults do not
// affect other tests. It lasts until the test ends.
type namespace struct {
	pid    string   // of the process that holds it
	prefix []string // the beginning of a command line that runs in it
}

// newNamespace creates a namespace, or skips the test when that is not allowed.
func newNamespace(t *testing.T) *namespace {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, for namespaces of network and mounts")
	}
	if err := exec.Command("unshare", "--net", "--mount", "true").Run(); err != nil {
		t.Skip("needs namespaces of network and mounts: ", err)
	}
	keeper := exec.Command("unshare", "--net", "--mount", "sh", "-c", "ip link set lo up && echo ready && exec cat")
	alive, err := keeper.StdinPipe() // closing it ends the keeper
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { alive.Close() })
	p := background(t, keeper)
	if !await(func() bool { return strings.Contains(p.output.String(), "ready") }) {
		t.Fatal("the namespace does not exist")
	}
	pid := strconv.Itoa(keeper.Process.Pid)
	return &namespace{pid: pid, prefix: []string{"nsenter", "--target", pid, "--net", "--mount", "--"}}
}

// run runs a shell command in the namespace.
func (n *namespace) run(t *testing.T, format string, args ...any) {
	t.Helper()
	line := fmt.Sprintf(format, args...)
	if out, err := exec.Command(n.prefix[0], append(n.prefix[1:], "sh", "-ec", line)...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

// link connects two namespaces: this one gets the address 10.77.0.1, the other 10.77.0.2.
func (n *namespace) link(t *testing.T, to *namespace) {
	t.Helper()
	n.run(t, "ip link add fleet type veth peer name fleet netns %s && ip addr add 10.77.0.1/24 dev fleet && ip link set fleet up", to.pid)
	to.run(t, "ip addr add 10.77.0.2/24 dev fleet && ip link set fleet up")
}

// cut drops every packet of the link silently, in both directions.
func (n *namespace) cut(t *testing.T) {
	t.Helper()
	n.run(t, `nft 'table inet cut {
		chain in { type filter hook input priority 0; iifname "fleet" drop; }
		chain out { type filter hook output priority 0; oifname "fleet" drop; }
	}'`)
}

// heal ends the cut.
func (n *namespace) heal(t *testing.T) {
	t.Helper()
	n.run(t, "nft delete table inet cut")
}
