package e2e_test

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"disc/discovery/devetcd/etcdtest"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestFaultLeaderKilled kills the leader of three members: nobody is deregistered, and
// writes go on.
func TestFaultLeaderKilled(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	client := etcdtest.Client(t, c.members[0].endpoint, c.members[1].endpoint, c.members[2].endpoint)
	one, peer := c.sidecar(t, "one"), c.sidecar(t, "peer")
	one.register(t, "web", "web-1")
	peer.register(t, "web", "web-2")
	peer.find(t, "web", "web-1", "web-2")
	watch := peer.follow(t, "web")
	leases := []string{one.lease(t), peer.lease(t)}
	reads := []func(){one.steady(t, "web", "web-1", "web-2"), peer.steady(t, "web", "web-1", "web-2")}

	leader := c.leader(t, client)
	killed := time.Now()
	c.kill(leader)
	one.register(t, "db", "db-1")
	within(t, killed, 5*time.Second, "a write is made and seen by the peer", func() error { return peer.answers(t.Context(), "db", "db-1") })
	pause(time.Until(killed.Add(ttl + 3*time.Second))) // a lease that was not kept has ended by then
	for _, stop := range reads {
		stop()
	}
	if now := []string{one.lease(t), peer.lease(t)}; now[0] != leases[0] || now[1] != leases[1] {
		t.Errorf("the leases were %v and are %v", leases, now)
	}
	if strings.Contains(watch.output.String(), `"event":"delete"`) {
		t.Errorf("the watch has seen somebody go:\n%s", watch.output.String())
	}
}

// TestFaultQuorumLost takes two of three members away for longer than every lease: all
// lookups are answered as before, and say that they are stale. When the quorum is back
// and every lease has lapsed, all are registered again, and no answer shrinks meanwhile.
func TestFaultQuorumLost(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	client := etcdtest.Client(t, c.members[0].endpoint, c.members[1].endpoint, c.members[2].endpoint)
	var fleet []*sidecar
	var ids []string
	for n := range 5 {
		s, id := c.sidecar(t, fmt.Sprintf("host-%d", n), "catalog: {stale_after: 2s}"), fmt.Sprintf("web-%d", n)
		s.registerAt(t, "web", id, alivePort(t))
		fleet, ids = append(fleet, s), append(ids, id)
	}
	var reads []func()
	for _, s := range fleet {
		s.find(t, "web", ids...)
		reads = append(reads, s.steady(t, "web", ids...))
	}

	leader := c.leader(t, client)
	lost, others := time.Now(), []int{leader, (leader + 1) % 3}
	c.kill(others...)
	for _, s := range fleet {
		within(t, lost, ttl, "the answer says that it is stale", func() error { return s.stale(t) })
	}
	pause(time.Until(lost.Add(2 * ttl)))
	for _, n := range others {
		c.members[n].start(t)
	}
	c.leader(t, client)
	back := time.Now()
	revokeAll(t, client)
	for n, s := range fleet {
		within(t, back, 10*time.Second, "all are registered again", func() error { return s.registeredSince(t, client, ids[n]) })
	}
	for _, s := range fleet {
		within(t, back, 10*time.Second, "the answer is fresh", func() error {
			if s.stale(t) == nil {
				return errors.New("still stale")
			}
			return nil
		})
	}
	for _, stop := range reads {
		stop()
	}
}

// alivePort returns a port at which connections are taken until the test ends: whoever
// probes it finds it alive.
func alivePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

// revokeAll ends every lease at once, as a new leader does whose predecessor was away
// for longer than they last.
func revokeAll(t *testing.T, client *clientv3.Client) {
	t.Helper()
	leases, err := client.Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var revoking sync.WaitGroup
	for _, l := range leases.Leases {
		revoking.Go(func() {
			if _, err := client.Revoke(t.Context(), l.ID); err != nil {
				t.Error(err)
			}
		})
	}
	revoking.Wait()
}

// registeredSince returns an error unless the record is in etcd, under the lease that
// the agent has now.
func (s *sidecar) registeredSince(t *testing.T, client *clientv3.Client, id string) error {
	t.Helper()
	status, err := s.Agent(t.Context())
	if err != nil {
		return err
	}
	r, err := client.Get(t.Context(), "/disc/v1/default/services/web/instances/"+id)
	if err != nil {
		return err
	}
	if r.Count == 0 {
		return fmt.Errorf("%s is not in etcd", id)
	}
	if lease := strconv.FormatInt(r.Kvs[0].Lease, 16); lease != status.Session.Lease {
		return fmt.Errorf("%s lies under lease %s, and the agent has %s", id, lease, status.Session.Lease)
	}
	return nil
}

// TestFaultCompaction lets etcd forget the revisions that an agent has missed while it
// was cut off: it takes over the difference, and its watchers see nothing else.
func TestFaultCompaction(t *testing.T) {
	t.Parallel()
	etcd := startMember(t)
	client := etcdtest.Client(t, etcd.endpoint)
	link := etcdtest.StartLink(t, etcd.endpoint)
	one, peer := startSidecar(t, "one", link.Endpoint(), "session: {ttl: 1m}"), startSidecar(t, "peer", etcd.endpoint)
	for n := range 5 {
		peer.register(t, "web", fmt.Sprintf("web-%d", n))
	}
	one.find(t, "web", "web-0", "web-1", "web-2", "web-3", "web-4")
	watch := one.follow(t, "web")

	link.Freeze()
	if _, err := peer.Deregister(t.Context(), "web", "web-0"); err != nil {
		t.Fatal(err)
	}
	last := peer.register(t, "web", "web-5").Revision
	if _, err := client.Compact(t.Context(), last, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	link.Cut()
	link.Mend()
	within(t, time.Now(), 2*time.Second, "the view is current", func() error {
		return one.answers(t.Context(), "web", "web-1", "web-2", "web-3", "web-4", "web-5")
	})
	if !await(func() bool { return strings.Contains(watch.output.String(), "web-5") }) {
		t.Error("the watch has not seen web-5")
	}
	_, since, _ := strings.Cut(watch.output.String(), `"event":"reset"`)
	_, since, _ = strings.Cut(since, "\n") // behind the list that it began with
	if strings.Contains(since, `"event":"reset"`) || strings.Contains(since, "web-1") || !strings.Contains(since, "web-0") {
		t.Errorf("the watch has seen more or less than the difference:\n%s", since)
	}
}

// TestFaultStartedOver wipes etcd, restores it from an older backup, or puts another
// cluster in its place: lookups go on, and all are registered again.
func TestFaultStartedOver(t *testing.T) {
	t.Parallel()
	for name, replace := range map[string]func(*testing.T, *member, string){
		"wiped": func(t *testing.T, m *member, dir string) {
			empty(t, dir)
			m.start(t)
		},
		// With the same flags it has the same cluster id and term, and soon a higher
		// revision than the one before: a resumed watch would be silently wrong.
		"wiped and grown": func(t *testing.T, m *member, dir string) {
			empty(t, dir)
			argv := m.argv
			m.argv = append(append([]string{}, argv...), "--listen-client-urls", "http://127.0.0.1:"+freePort(t))
			m.start(t)
			grow(t, strings.TrimPrefix(m.argv[len(m.argv)-1], "http://"))
			m.signal(syscall.SIGKILL)
			<-m.ended
			m.argv = argv
			m.start(t)
		},
		"restored": func(t *testing.T, m *member, dir string) {
			empty(t, dir)
			copyDir(t, dir+".backup", dir)
			m.start(t)
		},
		"replaced": func(t *testing.T, m *member, dir string) {
			empty(t, dir)
			m.argv = append(m.argv, "--initial-cluster-token", "another")
			m.start(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "etcd")
			etcd := startMember(t, "--data-dir", dir)
			one, peer := startSidecar(t, "one", etcd.endpoint), startSidecar(t, "peer", etcd.endpoint)
			one.register(t, "web", "web-1")
			peer.find(t, "web", "web-1")
			etcd.signal(syscall.SIGKILL) // the backup is of before web-2
			<-etcd.ended
			copyDir(t, dir, dir+".backup")
			etcd.start(t)
			peer.register(t, "web", "web-2")
			one.find(t, "web", "web-1", "web-2")
			before := one.epoch(t)
			reads := []func(){one.steady(t, "web", "web-1", "web-2"), peer.steady(t, "web", "web-1", "web-2")}

			etcd.signal(syscall.SIGKILL)
			<-etcd.ended
			replace(t, etcd, dir)
			client := etcdtest.Client(t, etcd.endpoint)
			if _, err := client.Get(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
			back := time.Now()
			if name != "restored" { // its epoch is the old one
				within(t, back, 5*time.Second, "it is noticed", func() error {
					if one.epoch(t) == before {
						return errors.New("the epoch is the old one")
					}
					return nil
				})
			}
			within(t, back, 10*time.Second, "web-1 is registered again", func() error { return one.registeredSince(t, client, "web-1") })
			within(t, back, 10*time.Second, "web-2 is registered again", func() error { return peer.registeredSince(t, client, "web-2") })
			one.register(t, "db", "db-1")
			within(t, time.Now(), 5*time.Second, "what is new is seen", func() error { return peer.answers(t.Context(), "db", "db-1") })
			for _, stop := range reads {
				stop()
			}
		})
	}
}

func (s *sidecar) epoch(t *testing.T) string {
	t.Helper()
	status, err := s.Agent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return status.Catalog.Epoch
}

// grow writes more than anybody has written before.
func grow(t *testing.T, endpoint string) {
	t.Helper()
	client := etcdtest.Client(t, endpoint)
	for range 200 {
		if _, err := client.Put(t.Context(), "/grown", ""); err != nil {
			t.Fatal(err)
		}
	}
}

func empty(t *testing.T, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command("chmod", "-R", "u+rw,go-rwx", to).Run(); err != nil {
		t.Fatal(err)
	}
}

// TestFaultMember takes one of three members away in the ways in which no connection
// ends: its disk is very slow; it is cut off from the other members; its host vanishes,
// and every packet is lost. The sessions go on over another member, and so do the watches.
func TestFaultMember(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(*testing.T, *member, *namespace){
		"slow disk": func(t *testing.T, m *member, _ *namespace) {
			if _, err := exec.LookPath("strace"); err != nil {
				t.Skip("needs strace (apt-get install strace): ", err)
			}
			slow := background(t, exec.Command("strace", "-f", "-p", strconv.Itoa(m.command.Process.Pid), "-o", "/dev/null",
				"-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:delay_enter=30s"))
			if !await(func() bool { return strings.Contains(slow.output.String(), "attached") }) {
				t.Fatal("strace does not attach")
			}
		},
		"cut off from its peers": func(t *testing.T, _ *member, host *namespace) { host.cutPort(t, 2380) },
		"vanishes":               func(t *testing.T, _ *member, host *namespace) { host.cut(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := startHosts(t)
			peer := c.sidecar(t, "peer")
			victim := c.watched(t, peer)
			one := c.sidecar(t, "one")
			one.register(t, "web", "web-1")
			peer.register(t, "web", "web-2")
			one.find(t, "web", "web-1", "web-2")
			peer.find(t, "web", "web-1", "web-2")
			leases := []string{one.lease(t), peer.lease(t)}
			reads := []func(){one.steady(t, "web", "web-1", "web-2"), peer.steady(t, "web", "web-1", "web-2")}

			harm(t, c.members[victim], c.hosts[victim])
			harmed := time.Now()
			written := map[string]time.Time{}
			write := func(id string) {
				one.register(t, "db", id)
				written[id] = time.Now()
			}
			write("db-1")
			within(t, harmed, 8*time.Second, "what is written is seen", func() error { return peer.answers(t.Context(), "db", "db-1") })
			history := peer.record(t, "db")
			for n := 2; time.Since(harmed) < ttl+4*time.Second; n++ { // a lease that was not kept has ended by then
				write(fmt.Sprintf("db-%d", n))
				pause(200 * time.Millisecond)
			}
			within(t, time.Now(), time.Second, "the watch has moved to another member", func() error {
				return peer.answers(t.Context(), "db", slices.Sorted(maps.Keys(written))...)
			})
			history.stop()
			history.upToDate(t, written)
			for _, stop := range reads {
				stop()
			}
			if now := []string{one.lease(t), peer.lease(t)}; now[0] != leases[0] || now[1] != leases[1] {
				t.Errorf("the leases were %v and are %v", leases, now)
			}
		})
	}
}

// TestFaultOnlyMember loses every packet of the only member for less than the TTL: no
// lease is lost, and nobody lists everything again and again.
func TestFaultOnlyMember(t *testing.T) {
	t.Parallel()
	const ttl, off = 20 * time.Second, 8 * time.Second
	p := startParted(t, "session: {ttl: "+ttl.String()+"}")
	lease, before := p.one.lease(t), p.one.resyncs(t)
	read := p.one.steady(t, "web", "web-1", "web-2")
	p.host.cut(t)
	pause(off)
	p.host.heal(t)
	healed := time.Now()
	p.peer.register(t, "db", "db-1")
	within(t, healed, 5*time.Second, "the view is current", func() error { return p.one.answers(t.Context(), "db", "db-1") })
	read()
	if now := p.one.lease(t); now != lease {
		t.Errorf("the lease was %s and is %s", lease, now)
	}
	if now := p.one.resyncs(t); now > before+2 {
		t.Errorf("%d comparisons with etcd after the cut, want 2 at most", now-before)
	}
}
