package e2e_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestDNSBeyondLoopback asks an agent from another host, and from an address that is not in
// dns.networks. Beyond dns.rate_limit, clients get truncated answers over UDP, and whole ones over TCP.
func TestDNSBeyondLoopback(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("dig"); err != nil {
		t.Skip("Debian package dnsutils is not installed")
	}
	host, other := newNamespace(t), newNamespace(t)
	etcd := startMemberAt(t, host.prefix, "127.0.0.1:2379", "127.0.0.1:2380")
	host.link(t, other)
	other.run(t, "ip addr add 198.51.100.7/32 dev fleet")
	host.run(t, "ip route add 198.51.100.7/32 dev fleet")
	one := startSidecarThrough(t, host.prefix, "one", etcd.endpoint,
		"advertise: 10.77.0.1", "dns: {listen: 0.0.0.0:3453, networks: [10.77.0.0/24], rate_limit: 1}")
	for _, id := range []string{"web-1", "web-2", "web-3"} {
		one.register(t, "web", id)
	}
	one.find(t, "web", "web-1", "web-2", "web-3")
	const question = "_web._tcp.svc.disc"
	two := startSidecarThrough(t, host.prefix, "two", etcd.endpoint, "advertise: 10.77.0.1", "dns: {listen: 0.0.0.0:3454, networks: [198.51.100.7]}")
	two.find(t, "web", "web-1", "web-2", "web-3")
	dig := func(args ...string) string {
		command := slices.Concat(other.prefix, []string{"dig", "-p", "3453", "@10.77.0.1", "+tries=1", "+noall", "+comments", "+answer"}, args)
		out, _ := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput() // its exit code says that there was no answer
		return string(out)
	}
	// one process asks a hundred times in a row: more often than once a second
	flood := []string{"+ignore", "+time=60"}
	for range 100 {
		flood = append(flood, question, "SRV")
	}
	out := dig(flood...)
	if whole, truncated := strings.Count(out, "ANSWER: 3"), strings.Count(out, " tc"); whole == 0 || truncated == 0 || whole+truncated != 100 {
		t.Errorf("%d answers are whole and %d truncated:\n%s", whole, truncated, out)
	}
	for range 3 {
		if out := dig("+time=60", question, "SRV"); !strings.Contains(out, "ANSWER: 3") {
			t.Errorf("a client that asks again over TCP got\n%s", out)
		}
	}
	for _, transport := range []string{"+notcp", "+tcp"} {
		if out := dig("-b", "198.51.100.7", transport, "+time=1", question, "SRV"); strings.Contains(out, "ANSWER") {
			t.Errorf("a client of another network got, %s:\n%s", transport, out)
		}
		if out := dig("-p", "3454", "-b", "198.51.100.7", transport, "+time=60", question, "SRV"); !strings.Contains(out, "ANSWER: 3") {
			t.Errorf("where its network is allowed, it got, %s:\n%s", transport, out)
		}
	}
	if out := dig("+time=60", question, "SRV"); !strings.Contains(out, "ANSWER: 3") {
		t.Errorf("after that, a client got\n%s", out)
	}
	if strings.Contains(one.output.String(), "dns.networks is not set") {
		t.Errorf("the log says\n%s", one.output.String())
	}
}

// TestDNSWarnsBeyondLoopback starts an agent whose DNS listens to everybody.
func TestDNSWarnsBeyondLoopback(t *testing.T) {
	t.Parallel()
	host := newNamespace(t)
	one := startSidecarThrough(t, host.prefix, "one", "127.0.0.1:2379", "advertise: 10.77.0.1", "dns: {listen: 0.0.0.0:3453}")
	one.awaitLog(t, "dns.networks is not set")
}
