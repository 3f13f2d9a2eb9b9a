package e2e_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/devetcd/etcdtest"
)

// TestFaultLeaderKilled kills the leader of three members: nobody is deregistered, and
// writes go on.
func TestFaultLeaderKilled(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.StartCluster(t, 3)
	one, peer := startSidecar(t, "one", endpoints(etcd)), startSidecar(t, "peer", endpoints(etcd))
	one.register(t, "web", "web-1")
	peer.register(t, "web", "web-2")
	peer.find(t, "web", "web-1", "web-2")
	watch := peer.follow(t, "web")
	leases := []string{one.lease(t), peer.lease(t)}
	reads := []func(){one.steady(t, "web", "web-1", "web-2"), peer.steady(t, "web", "web-1", "web-2")}

	leader := etcd.Leader()
	killed := time.Now()
	leader.Kill()
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

// endpoints are those of a cluster, as an agent's settings have them.
func endpoints(etcd *etcdtest.Cluster) string { return strings.Join(etcd.Endpoints(), ", ") }

// TestFaultQuorumLost takes two of three members away for longer than every lease: all
// lookups are answered as before, and say that they are stale. When the quorum is back
// and every lease has lapsed, all are registered again, and no answer shrinks meanwhile.
func TestFaultQuorumLost(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.StartCluster(t, 3)
	client := etcd.Client()
	var fleet []*sidecar
	var ids []string
	for n := range 5 {
		s, id := startSidecar(t, fmt.Sprintf("host-%d", n), endpoints(etcd), "catalog: {stale_after: 2s}"), fmt.Sprintf("web-%d", n)
		s.registerAt(t, "web", id, alivePort(t))
		fleet, ids = append(fleet, s), append(ids, id)
	}
	var reads []func()
	for _, s := range fleet {
		s.find(t, "web", ids...)
		reads = append(reads, s.steady(t, "web", ids...))
	}

	follower := etcd.Follower()
	lost := time.Now()
	etcd.Leader().Kill()
	follower.Kill()
	for _, s := range fleet {
		within(t, lost, ttl, "the answer says that it is stale", func() error { return s.stale(t) })
	}
	pause(time.Until(lost.Add(2 * ttl)))
	etcd.Start()
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
