package lease

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"disc/discovery/devetcd"

	"go.etcd.io/etcd/server/v3/embed"
	"golang.org/x/sync/errgroup"
)

// cluster is an etcd of three members whose addresses and data stay.
type cluster struct {
	t       *testing.T
	initial string
	members [3]struct {
		client, peer, dir string
		server            *devetcd.Server
	}
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t}
	addresses := freeAddresses(t, 6)
	var initial []string
	for n := range c.members {
		m := &c.members[n]
		m.client, m.peer, m.dir = addresses[2*n], addresses[2*n+1], t.TempDir()
		initial = append(initial, fmt.Sprintf("m%d=http://%s", n, m.peer))
	}
	c.initial = strings.Join(initial, ",")
	c.start(0, 1, 2)
	t.Cleanup(func() { c.stop(0, 1, 2) })
	return c
}

func (c *cluster) start(members ...int) {
	c.t.Helper()
	var starting errgroup.Group
	for _, n := range members {
		m := &c.members[n]
		starting.Go(func() (err error) {
			m.server, err = devetcd.Start(c.t.Context(), devetcd.Options{Listen: m.client, Dir: m.dir, Configure: func(e *embed.Config) {
				e.Name, e.InitialCluster = fmt.Sprintf("m%d", n), c.initial
				peers := []url.URL{{Scheme: "http", Host: m.peer}}
				e.ListenPeerUrls, e.AdvertisePeerUrls = peers, peers
			}})
			return err
		})
	}
	if err := starting.Wait(); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) stop(members ...int) {
	for _, n := range members {
		if err := c.members[n].server.Close(); err != nil {
			c.t.Error(err)
		}
	}
}

// freeAddresses are of ports that nobody listens on.
func freeAddresses(t *testing.T, n int) []string {
	t.Helper()
	var free []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		free = append(free, l.Addr().String())
	}
	return free
}

// Without a quorum no lease expires, however long it lasts: silence is not loss.
func TestSilenceIsNotLoss(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	f := start(t, 3*time.Second, c.members[0].client, c.members[1].client, c.members[2].client)
	old := f.renewed()
	_, changed := f.Lease()
	c.stop(1, 2)
	until(t, "a silence longer than the TTL", func() bool {
		l, _ := f.Lease()
		return l.Remaining() < 0
	})
	c.start(1, 2)
	if l := f.renewed(); l.ID != old.ID || isClosed(changed) {
		t.Errorf("lease %x after %x, reported as changed: %v", l.ID, old.ID, isClosed(changed))
	}
}

// A separate etcd, as Debian ships it, is frozen, continued, killed and started again.
func TestProcess(t *testing.T) {
	t.Parallel()
	binary, err := exec.LookPath("etcd")
	if err != nil {
		t.Skip("needs etcd in the PATH (apt-get install etcd-server): ", err)
	}
	addresses := freeAddresses(t, 2)
	client, peer := "http://"+addresses[0], "http://"+addresses[1]
	dir := t.TempDir()
	run := func() *exec.Cmd {
		c := exec.Command(binary, "--data-dir", dir, "--listen-client-urls", client, "--advertise-client-urls", client,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer, "--log-level", "error")
		c.Env = append(os.Environ(), "ETCD_UNSUPPORTED_ARCH=arm64")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			c.Process.Kill()
			c.Wait()
		})
		return c
	}
	etcd := run()
	f := start(t, 10*time.Second, addresses[0])
	old := f.renewed()
	_, changed := f.Lease()

	signal(t, etcd, syscall.SIGSTOP)
	f.Doubt(old.ID)
	f.failed("renew", 1)
	signal(t, etcd, syscall.SIGCONT)
	f.renewed()
	signal(t, etcd, syscall.SIGKILL)
	f.failed("renew", 2)
	run()
	if l := f.renewed(); l.ID != old.ID || isClosed(changed) {
		t.Errorf("lease %x after %x, reported as changed: %v", l.ID, old.ID, isClosed(changed))
	}
}

func signal(t *testing.T, c *exec.Cmd, s syscall.Signal) {
	t.Helper()
	if err := c.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}
