package etcdtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// patience bounds every wait for a cluster. A wait reaches it only when it fails.
const patience = time.Minute

// Cluster is an etcd whose members are processes. Tests kill, pause and partition them.
// Addresses and data survive restarts.
type Cluster struct {
	Members []*Member

	t       testing.TB
	program string   // of each member
	token   string   // of the initial cluster
	initial string   // the initial cluster
	flags   []string // further flags of etcd
}

// StartCluster runs the etcd in the PATH, with size members, until the test ends. It passes
// flags to each of them. It skips the test if the PATH has no etcd.
func StartCluster(t testing.TB, size int, flags ...string) *Cluster {
	t.Helper()
	if _, err := exec.LookPath("etcd"); err != nil {
		t.Skip("needs etcd in the PATH (apt-get install etcd-server): ", err)
	}
	return StartClusterOf(t, "etcd", size, flags...)
}

// StartClusterOf is StartCluster with another program than the etcd in the PATH, as [Bundled].
func StartClusterOf(t testing.TB, program string, size int, flags ...string) *Cluster {
	t.Helper()
	c := &Cluster{t: t, program: program, token: "etcd-cluster", flags: flags}
	var initial []string
	for n := range size {
		m := newMember(c, fmt.Sprintf("m%d", n))
		c.Members = append(c.Members, m)
		initial = append(initial, m.Name+"=http://"+m.peers.Endpoint())
	}
	c.initial = strings.Join(initial, ",")
	t.Cleanup(c.Kill)
	c.Start()
	return c
}

// Endpoints returns the client address of each member, host:port.
func (c *Cluster) Endpoints() []string {
	var all []string
	for _, m := range c.Members {
		all = append(all, m.Endpoint())
	}
	return all
}

// Start starts the members that do not run, and waits until all members serve.
func (c *Cluster) Start() {
	c.t.Helper()
	for _, m := range c.Members {
		m.Start()
	}
	for _, m := range c.Members {
		m.Await()
	}
}

// Kill kills all members.
func (c *Cluster) Kill() {
	for _, m := range c.Members {
		m.Kill()
	}
}

// Leader waits until the members agree on a leader, and returns it.
func (c *Cluster) Leader() *Member {
	c.t.Helper()
	var leader *Member
	await(c.t, "a leader", func(ctx context.Context) error {
		counted := map[uint64]int{}
		ids := map[uint64]*Member{}
		for _, m := range c.Members {
			s, err := m.status(ctx)
			if err != nil {
				continue // a member may be down
			}
			counted[s.Leader]++
			ids[s.Header.MemberId] = m
		}
		for id, votes := range counted {
			if m, ok := ids[id]; ok && 2*votes > len(c.Members) {
				leader = m
				return nil
			}
		}
		return fmt.Errorf("the members say %v", counted)
	})
	return leader
}

// Follower returns a member that does not lead.
func (c *Cluster) Follower() *Member {
	c.t.Helper()
	leader := c.Leader()
	return c.Members[(slices.Index(c.Members, leader)+1)%len(c.Members)]
}

// await waits until check passes.
func await(t testing.TB, what string, check func(context.Context) error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err := check(ctx)
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s: %v", patience, what, err)
		}
	}
}

// addresses counts the addresses that Address tried.
var addresses atomic.Int32

// Address returns an address to listen on, host:port, that no other process uses now or
// later: its host is a loopback address made of this process's id. It leaves out ports
// that somebody listens on at all addresses.
func Address(t testing.TB) string {
	t.Helper()
	pid := os.Getpid()
	ip := net.IPv4(127, byte(64+pid>>16), byte(pid>>8), byte(pid))
	for range 100 {
		a := fmt.Sprintf("%s:%d", ip, 20000+addresses.Add(1))
		if IsFree(a) {
			return a
		}
	}
	t.Fatalf("no port of %s is free", ip)
	return ""
}

// IsFree reports whether nobody listens on an address. It connects and does not listen: a
// child forked meanwhile would inherit the listener until it executes its program.
func IsFree(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err == nil {
		conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// Client returns a client of all members. It is closed when the test ends.
func (c *Cluster) Client() *clientv3.Client { return Client(c.t, c.Endpoints()...) }
