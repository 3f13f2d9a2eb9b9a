package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"disc/discovery/devetcd/etcdtest"
)

// TestFaultMember makes one of three members fail without closing a connection: its disk is very
// slow, it is cut off from the other members, or its host loses every packet. The sessions and the
// watches continue over another member.
func TestFaultMember(t *testing.T) {
	etcdtest.SkipUnlessLong(t, "runs three clusters of etcd")
	t.Parallel()
	for name, harm := range map[string]func(*etcdtest.Member){
		"slow disk":              func(m *etcdtest.Member) { m.SlowDisk(30 * time.Second) },
		"cut off from its peers": (*etcdtest.Member).Part,
		"vanishes":               (*etcdtest.Member).Vanish,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			etcd := etcdtest.StartCluster(t, 3)
			peer := startSidecar(t, "peer", endpoints(etcd))
			victim := watchedMember(t, etcd, peer)
			one := startSidecar(t, "one", endpoints(etcd))
			one.register(t, "web", "web-1")
			peer.register(t, "web", "web-2")
			one.find(t, "web", "web-1", "web-2")
			peer.find(t, "web", "web-1", "web-2")
			leases := []string{one.lease(t), peer.lease(t)}
			reads := []func(){one.steady(t, "web", "web-1", "web-2"), peer.steady(t, "web", "web-1", "web-2")}

			harm(victim)
			harmed := time.Now()
			written := map[string]time.Time{}
			write := func(id string) {
				one.register(t, "db", id)
				written[id] = time.Now()
			}
			write("db-1")
			within(t, harmed, 8*time.Second, "the peer sees a write", func() error { return peer.answers(t.Context(), "db", "db-1") })
			history := peer.record(t, "db")
			for n := 2; time.Since(harmed) < ttl+4*time.Second; n++ { // by then a lease without keepalives has expired
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

// watchedMember waits until the only agent watches, and returns the member that serves the watch.
func watchedMember(t *testing.T, etcd *etcdtest.Cluster, s *sidecar) *etcdtest.Member {
	t.Helper()
	var watched *etcdtest.Member
	within(t, time.Now(), waitTimeout, "the agent watches", func() error {
		for _, m := range etcd.Members {
			resp, err := http.Get("http://" + m.Endpoint() + "/metrics")
			if err != nil {
				return err
			}
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				return err
			}
			if !strings.Contains(string(text), "etcd_debugging_mvcc_watcher_total 0\n") {
				watched = m
				return nil
			}
		}
		return errors.New("no member is watched")
	})
	return watched
}

// TestFaultOnlyMember drops every packet of the only member for less than the TTL. No lease is lost,
// and the agent resyncs at most twice.
func TestFaultOnlyMember(t *testing.T) {
	t.Parallel()
	const ttl, off = 20 * time.Second, 8 * time.Second
	p := startPartition(t, "session: {ttl: "+ttl.String()+"}")
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
		t.Errorf("%d resyncs after the cut, want 2 at most", now-before)
	}
}
