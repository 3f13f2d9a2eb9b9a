package e2e_test

import (
	"errors"
	"fmt"
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

// TestFaultLeaderKilled kills the leader of three members. No instance is deregistered, and
// writes succeed again.
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
	within(t, killed, 5*time.Second, "the peer sees a write", func() error { return peer.answers(t.Context(), "db", "db-1") })
	pause(time.Until(killed.Add(ttl + 3*time.Second))) // by then a lease without keepalives has expired
	for _, stop := range reads {
		stop()
	}
	if now := []string{one.lease(t), peer.lease(t)}; now[0] != leases[0] || now[1] != leases[1] {
		t.Errorf("the leases were %v and are %v", leases, now)
	}
	if strings.Contains(watch.output.String(), `"event":"delete"`) {
		t.Errorf("the watch reports a deletion:\n%s", watch.output.String())
	}
}

// endpoints returns the endpoints of a cluster in the form of an agent's settings.
func endpoints(etcd *etcdtest.Cluster) string { return strings.Join(etcd.Endpoints(), ", ") }

// TestFaultQuorumLost stops two of three members for longer than every TTL. All lookups are
// answered as before, and say that they are stale. When the quorum is back and every lease has
// expired, all instances are registered again, and meanwhile no answer shrinks.
func TestFaultQuorumLost(t *testing.T) {
	etcdtest.SkipUnlessLong(t, "runs a cluster of etcd")
	t.Parallel()
	etcd := etcdtest.StartCluster(t, 3)
	client := etcd.Client()
	var fleet []*sidecar
	var ids []string
	for n := range 5 {
		s, id := startSidecar(t, fmt.Sprintf("host-%d", n), endpoints(etcd), "catalog: {stale_after: 2s}"), fmt.Sprintf("web-%d", n)
		s.registerAt(t, "web", id, livePort(t))
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
		within(t, back, 10*time.Second, "all instances are registered again", func() error { return s.registeredSince(t, client, ids[n]) })
	}
	for _, s := range fleet {
		within(t, back, 10*time.Second, "the answer is fresh", func() error {
			if s.stale(t) == nil {
				return errors.New("the answer is still stale")
			}
			return nil
		})
	}
	for _, stop := range reads {
		stop()
	}
}

// revokeAll revokes every lease at once, as a new leader does after an outage that was longer than
// the TTLs.
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

// registeredSince returns an error unless the record is in etcd under the agent's current lease.
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
		return fmt.Errorf("%s is under lease %s, and the agent has lease %s", id, lease, status.Session.Lease)
	}
	return nil
}

// TestFaultCompaction compacts the revisions that an agent missed while it was cut off. The agent
// applies the difference, and its watchers see nothing else.
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
		t.Error("the watch does not report web-5")
	}
	_, since, _ := strings.Cut(watch.output.String(), `"event":"reset"`)
	_, since, _ = strings.Cut(since, "\n") // after the list that it starts with
	if strings.Contains(since, `"event":"reset"`) || strings.Contains(since, "web-1") || !strings.Contains(since, "web-0") {
		t.Errorf("the watch does not report exactly the difference:\n%s", since)
	}
}

// replacements are ways to replace the etcd of one member, whose data is in a folder, by one that
// has another history.
var replacements = map[string]func(*testing.T, *member, string){
	"wiped": func(t *testing.T, m *member, dir string) {
		empty(t, dir)
		m.start(t)
	},
	// With the same flags it has the same cluster id and term, and soon a higher
	// revision than the previous etcd: a resumed watch would be silently wrong.
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
}

// TestFaultStartedOver wipes etcd, restores it from an older backup, or replaces it by another
// cluster. Lookups are answered as before, and all instances are registered again.
func TestFaultStartedOver(t *testing.T) {
	t.Parallel()
	for name, replace := range replacements {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "etcd")
			etcd := startMember(t, "--data-dir", dir)
			one, peer := startSidecar(t, "one", etcd.endpoint), startSidecar(t, "peer", etcd.endpoint)
			one.register(t, "web", "web-1")
			peer.find(t, "web", "web-1")
			etcd.signal(syscall.SIGKILL) // the backup does not have web-2
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
			if name != "restored" { // the backup has the old epoch
				within(t, back, 5*time.Second, "the agent notices it", func() error {
					if one.epoch(t) == before {
						return errors.New("the epoch is the old one")
					}
					return nil
				})
			}
			within(t, back, 10*time.Second, "web-1 is registered again", func() error { return one.registeredSince(t, client, "web-1") })
			within(t, back, 10*time.Second, "web-2 is registered again", func() error { return peer.registeredSince(t, client, "web-2") })
			one.register(t, "db", "db-1")
			within(t, time.Now(), 5*time.Second, "the peer sees a new instance", func() error { return peer.answers(t.Context(), "db", "db-1") })
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

// grow writes to etcd until its revision exceeds that of the previous etcd.
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
