package e2e_test

import (
	"fmt"
	"maps"
	"slices"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/devetcd/etcdtest"
)

// TestFaultLockDeleted deletes the key of a grant by hand, as an operator may who wants to break
// a lock. Its holder is told at once, and the next gets the grant with a higher fence.
func TestFaultLockDeleted(t *testing.T) {
	t.Parallel()
	etcd := startStore(t, 1, longQuarantine)
	client := etcd.Client()
	one, two := startSidecar(t, "one", endpoints(etcd), longSession), startSidecar(t, "two", endpoints(etcd), longSession)
	two.register(t, "gpu", "gpu-1")
	one.find(t, "gpu", "gpu-1")
	remove := func(t *testing.T, key string) time.Time {
		if r, err := client.Delete(t.Context(), key); err != nil || r.Deleted != 1 {
			t.Fatalf("delete %s: %v, %v", key, r, err)
		}
		return time.Now()
	}
	for name, of := range map[string]exclusive{"a lock": lockNamed("job"), "a claim": slotOf("gpu")} {
		t.Run(name, func(t *testing.T) {
			holder := one.hold(t, of)
			next := two.contend(t, of)
			holder.renewsOn(t, "the first renews its grant")
			if next.granted() == nil {
				t.Fatal("two hold it")
			}
			deleted := remove(t, holder.keyOf(t, client))
			within(t, deleted, 2*time.Second, "the first is told that its grant is lost", holder.told)
			within(t, deleted, 2*time.Second, "the next has the grant", next.granted)
			if next.got.fence <= holder.got.fence {
				t.Errorf("the fences are %d and %d", holder.got.fence, next.got.fence)
			}
			next.release(t)
		})
	}
	t.Run("disc lock", func(t *testing.T) {
		g := newGuardedFile(t, "guarded")
		holder := one.runUnderLock(t, g, writeFence)
		within(t, time.Now(), waitTimeout, "the command runs", func() error { return g.writers(t, 1) })
		r, err := client.Get(t.Context(), layout.Lock(g.lock), clientv3.WithPrefix())
		if err != nil || r.Count != 1 {
			t.Fatalf("%v, %v", r, err)
		}
		deleted := remove(t, string(r.Kvs[0].Key))
		within(t, deleted, 2*time.Second, "the command has ended", holder.exited)
		if holder.code != 5 {
			t.Errorf("'disc lock' ended with %d", holder.code)
		}
	})
}

// TestFaultLockAgentPaused pauses the agent of a holder for longer than its TTL. Meanwhile the other
// agents grant all other locks, and this one after the lease; the holder is told when its agent
// resumes.
func TestFaultLockAgentPaused(t *testing.T) {
	t.Parallel()
	etcd := startStore(t, 1, longQuarantine)
	one, two := startSidecar(t, "one", endpoints(etcd)), startSidecar(t, "two", endpoints(etcd))
	holder := one.hold(t, lockNamed("job"))
	holder.renewsOn(t, "the holder renews its lock")
	one.signal(syscall.SIGSTOP)
	paused := time.Now()
	next := two.contend(t, lockNamed("job"))
	for n := range 5 {
		asked, other := time.Now(), two.contend(t, lockNamed(fmt.Sprint("other-", n)))
		within(t, asked, 2*time.Second, "another lock is granted", other.granted)
	}
	within(t, paused, ttl+2*time.Second, "the next has the lock", next.granted)
	one.signal(syscall.SIGCONT)
	within(t, time.Now(), 2*time.Second, "the first is told that its lock is lost", holder.told)
	next.follows(t, holder)
}

// TestFaultLockMemberLags cuts a member, to which an agent is connected, off from the others, which
// go on without it. When it is back, with what it missed still to come, no agent takes that for
// another life of etcd, and no grant is lost.
func TestFaultLockMemberLags(t *testing.T) {
	etcdtest.SkipUnlessLong(t, "runs a cluster of etcd")
	t.Parallel()
	etcd := etcdtest.StartClusterOf(t, etcdtest.Bundled, 3, "--unsafe-no-fsync", "--heartbeat-interval=50", "--election-timeout=500")
	const session = "session: {ttl: 1m}" // of which a slow machine loses none
	client, job := etcd.Client(), lockNamed("job")
	one := startSidecar(t, "one", endpoints(etcd), session)
	lagging := watchedMember(t, etcd, one)
	others := slices.DeleteFunc(slices.Clone(etcd.Members), func(m *etcdtest.Member) bool { return m == lagging })
	two := startSidecar(t, "two", others[0].Endpoint()+", "+others[1].Endpoint(), session)
	holder, next := one.hold(t, job), two.contend(t, job)
	lease, before := one.lease(t), lifeKeys(t, client)
	for range 3 {
		lagging.Part()
		two.takeOthers(t)
		for _, m := range others {
			m.Disconnect() // agent one may connect to the member that lags
		}
		lagging.Join()
		holder.renewsOn(t, "the holder renews its lock")
	}
	two.takeOthers(t)
	if next.granted() == nil {
		t.Error("another has the lock, too")
	}
	if now := one.lease(t); now != lease {
		t.Errorf("the lease was %s and is %s", lease, now)
	}
	if now := lifeKeys(t, client); !maps.Equal(now, before) {
		t.Errorf("the keys of etcd's life were %v and are %v", before, now)
	}
	holder.release(t)
	within(t, time.Now(), 2*time.Second, "the next has the lock", next.granted)
	next.follows(t, holder)
}

// lifeKeys returns the keys that change when an agent finds that etcd has started over.
func lifeKeys(t *testing.T, etcd *clientv3.Client) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, key := range []string{layout.Epoch(), layout.FenceBase(), layout.Quarantine()} {
		r, err := etcd.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range r.Kvs {
			found[key] = string(kv.Value)
		}
	}
	return found
}
