package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// cluster is an etcd of three members, each a process of its own whose addresses and
// data stay.
type cluster struct {
	members [3]*member
	hosts   [3]*namespace // where they run; nil: here
	hub     *namespace    // where the agents run, beside such hosts; nil: here
}

// startCluster starts one on loopback.
func startCluster(t *testing.T, flags ...string) *cluster {
	t.Helper()
	var clients, peers [3]string
	for n := range peers {
		clients[n], peers[n] = "127.0.0.1:"+freePort(t), "127.0.0.1:"+freePort(t)
	}
	c := &cluster{}
	c.launch(t, clients, peers, flags)
	return c
}

// startHosts starts one whose members have a host each: network namespaces on one
// bridge, which is in the hub.
func startHosts(t *testing.T) *cluster {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs nft (apt-get install nftables): ", err)
	}
	c := &cluster{hub: newNamespace(t)}
	c.hub.run(t, "ip link add fleet type bridge && ip addr add 10.77.0.1/24 dev fleet && ip link set fleet up")
	var clients, peers [3]string
	for n := range c.hosts {
		host, address := newNamespace(t), fmt.Sprintf("10.77.0.%d", 11+n)
		c.hub.run(t, "ip link add host%d type veth peer name fleet netns %s && ip link set host%d master fleet up", n, host.pid, n)
		host.run(t, "ip addr add %s/24 dev fleet && ip link set fleet up", address)
		c.hosts[n], clients[n], peers[n] = host, address+":2379", address+":2380"
	}
	c.launch(t, clients, peers, []string{"--unsafe-no-fsync=false"}) // for disks that are slow
	return c
}

func (c *cluster) launch(t *testing.T, clients, peers [3]string, flags []string) {
	t.Helper()
	var initial []string
	for n, peer := range peers {
		initial = append(initial, fmt.Sprintf("m%d=http://%s", n, peer))
	}
	for n := range c.members {
		var through []string
		if c.hosts[n] != nil {
			through = c.hosts[n].through
		}
		c.members[n] = startMemberAt(t, through, clients[n], peers[n], slices.Concat([]string{
			"--name", fmt.Sprintf("m%d", n), "--initial-cluster", strings.Join(initial, ",")}, flags)...)
	}
}

// sidecar starts an agent that knows every member, beside the hub if there is one.
func (c *cluster) sidecar(t *testing.T, node string, settings ...string) *sidecar {
	t.Helper()
	var through []string
	if c.hub != nil {
		through = c.hub.through
	}
	endpoints := strings.Join([]string{c.members[0].endpoint, c.members[1].endpoint, c.members[2].endpoint}, ", ")
	return startSidecarThrough(t, through, node, endpoints, settings...)
}

// leader waits until a member leads and returns its number.
func (c *cluster) leader(t *testing.T, client *clientv3.Client) int {
	t.Helper()
	found := -1
	within(t, time.Now(), patience, "a leader is elected", func() error {
		for n, m := range c.members {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			status, err := client.Status(ctx, m.endpoint)
			cancel()
			if err == nil && status.Leader == status.Header.MemberId {
				found = n
				return nil
			}
		}
		return fmt.Errorf("no member says that it leads")
	})
	return found
}

// kill kills members.
func (c *cluster) kill(members ...int) {
	for _, n := range members {
		c.members[n].signal(syscall.SIGKILL)
		<-c.members[n].ended
	}
}

// watched waits until the only agent watches, and returns the member over which it does.
func (c *cluster) watched(t *testing.T, s *sidecar) int {
	t.Helper()
	within(t, time.Now(), patience, "the agent is in sync", func() error {
		status, err := s.Agent(t.Context())
		if err == nil && !status.Catalog.Synced {
			err = errors.New("it is not")
		}
		return err
	})
	for n, m := range c.members {
		argv := append(slices.Clone(c.hub.through), "curl", "-sS", "--fail", "http://"+m.endpoint+"/metrics")
		out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).Output()
		if err != nil {
			t.Fatalf("metrics of member %d: %v", n, err)
		}
		if !strings.Contains(string(out), "etcd_debugging_mvcc_watcher_total 0\n") {
			return n
		}
	}
	t.Fatal("no member is watched")
	return 0
}
