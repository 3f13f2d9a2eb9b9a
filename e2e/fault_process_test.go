package e2e_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"disc/agent/api"
	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/view"
)

// TestFaultStopped pauses an agent for longer than its TTL, as swapping or the migration of a virtual
// machine can. Its instance is registered again as soon as the agent continues.
func TestFaultStopped(t *testing.T) {
	t.Parallel()
	etcd := startMember(t)
	one, peer := startSidecar(t, "one", etcd.endpoint), startSidecar(t, "peer", etcd.endpoint)
	one.register(t, "web", "web-1")
	peer.find(t, "web", "web-1")
	one.signal(syscall.SIGSTOP)
	within(t, time.Now(), ttl+2*time.Second, "the peer drops the instance of the paused agent", func() error { return peer.answers(t.Context(), "web") })
	one.signal(syscall.SIGCONT)
	within(t, time.Now(), 2*time.Second, "the instance is registered again", func() error { return peer.answers(t.Context(), "web", "web-1") })
}

// TestFaultKilled kills an agent and restarts it within its TTL. The new process takes the record
// over, and no watcher sees a deletion, not even when the lease of the dead process expires.
func TestFaultKilled(t *testing.T) {
	t.Parallel()
	etcd := startMember(t)
	one, peer := startSidecar(t, "one", etcd.endpoint), startSidecar(t, "peer", etcd.endpoint)
	before := one.register(t, "web", "web-1")
	peer.find(t, "web", "web-1")
	watch := peer.follow(t, "web")
	stop := peer.steady(t, "web", "web-1")
	old, client := one.lease(t), etcdtest.Client(t, etcd.endpoint)

	killed := time.Now()
	one.signal(syscall.SIGKILL)
	<-one.ended
	one.start(t)
	var after view.Entry
	within(t, killed, ttl, "the new process writes the record", func() (err error) {
		if after, _, err = peer.Instance(t.Context(), "web", "web-1", api.Wait{}); err == nil && after.Run == before.Run {
			err = errors.New("the record is still that of the dead process")
		}
		return err
	})
	if after.Owner != before.Owner || !after.RegisteredAt.Equal(before.RegisteredAt) {
		t.Errorf("the record had the owner %s since %v, and has %s since %v", before.Owner, before.RegisteredAt, after.Owner, after.RegisteredAt)
	}
	within(t, killed, ttl+2*time.Second, "the lease of the dead process ends", func() error { return leaseEnded(t, client, old) })
	stop()
	one.register(t, "web", "web-2") // its event comes after every event of the expired lease
	if !await(func() bool { return strings.Contains(watch.output.String(), "web-2") }) {
		t.Error("the watch has ended")
	}
	if strings.Contains(watch.output.String(), `"event":"delete"`) {
		t.Errorf("the watch reports a deletion:\n%s", watch.output.String())
	}
}

// TestFaultTerminated ends agents with SIGTERM. They deregister their instances at once, and answer
// lookups until the drain delay ends. A second SIGTERM ends them at once.
func TestFaultTerminated(t *testing.T) {
	t.Parallel()
	etcd := startMember(t)
	peer := startSidecar(t, "peer", etcd.endpoint)
	one := startSidecar(t, "one", etcd.endpoint, "drain_delay: 1h")
	two := startSidecar(t, "two", etcd.endpoint, "drain_delay: 3s")
	one.register(t, "web", "web-1")
	two.register(t, "web", "web-2")
	peer.find(t, "web", "web-1", "web-2")

	signaled := time.Now()
	for _, s := range []*sidecar{one, two} {
		s.signal(syscall.SIGTERM)
	}
	within(t, signaled, time.Second, "deregistered", func() error { return peer.answers(t.Context(), "web") })
	for two.exited() != nil {
		if _, _, err := two.Lookup(t.Context(), "web", api.LookupOptions{}); err != nil && time.Since(signaled) < 3*time.Second {
			t.Fatalf("lookup in the drain delay, after %v: %v", time.Since(signaled), err)
		}
	}
	if took := time.Since(signaled); took < 3*time.Second {
		t.Errorf("ended %v after the signal, before the drain delay was over", took)
	}
	within(t, signaled, 4*time.Second, "ended after the drain delay of 3s", two.exited)
	if err := one.Ready(t.Context()); !errors.Is(err, discovery.ErrUnavailable) {
		t.Errorf("readiness while it drains: %v", err)
	}
	one.signal(syscall.SIGTERM)
	within(t, time.Now(), time.Second, "ended by the second signal", one.exited)
}

// TestFaultTerminatedWithoutEtcd ends agents with SIGTERM whose etcd hangs or is dead. They end
// without waiting for it.
func TestFaultTerminatedWithoutEtcd(t *testing.T) {
	t.Parallel()
	var agents []*sidecar
	for _, fault := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
		etcd := startMember(t)
		one := startSidecar(t, "one", etcd.endpoint)
		one.register(t, "web", "web-1")
		etcd.signal(fault)
		agents = append(agents, one)
	}
	signaled := time.Now()
	for _, s := range agents {
		s.signal(syscall.SIGTERM)
	}
	for _, s := range agents {
		within(t, signaled, 7*time.Second, "ended", s.exited)
		if s.code != 0 {
			t.Errorf("ended with %d", s.code)
		}
	}
}
