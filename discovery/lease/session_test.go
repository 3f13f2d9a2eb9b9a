package lease

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/pkg/v3/traceutil"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.uber.org/goleak"

	"disc/discovery/devetcd"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

func TestGrantedOnceEtcdIsThere(t *testing.T) {
	t.Parallel()
	socket, endpoint := path(t)
	f := start(t, time.Second, endpoint)
	f.failed("grant", 3)
	if l, _ := f.Lease(); l.ID != 0 {
		t.Fatalf("lease %x without etcd", l.ID)
	}
	defer f.disconnect() // before the proxy, which waits for its connections
	serve(t, socket, etcdtest.Start(t).Endpoint())
	if l := f.granted(Lease{}); l.TTL != time.Second {
		t.Errorf("TTL %v, want 1s", l.TTL)
	}
}

func TestRevokedLeaseIsReplaced(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	f := start(t, MinTTL, server.Endpoint())
	old := f.granted(Lease{})
	_, changed := f.Lease()
	if _, err := etcdtest.Client(t, server.Endpoint()).Revoke(t.Context(), old.ID); err != nil {
		t.Fatal(err)
	}
	<-changed
	f.granted(old)
}

func TestVerify(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	f := start(t, time.Hour, server.Endpoint()) // renewed after 20 minutes
	old := f.renewed()
	if _, err := etcdtest.Client(t, server.Endpoint()).Revoke(t.Context(), old.ID); err != nil {
		t.Fatal(err)
	}
	f.Verify(old.ID + 1) // not the session's
	if len(f.verify) > 0 {
		t.Error("verified a lease that is not the session's")
	}
	f.Verify(old.ID)
	if l := f.granted(old); !l.AfterOutage {
		t.Error("etcd lost the lease before its TTL was over, and that counts as no outage")
	}
}

func TestRestartedEtcd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := etcdtest.StartWith(t, devetcd.Options{Dir: dir})
	f := start(t, 15*time.Second, server.Endpoint())
	old := f.renewed()
	_, changed := f.Lease()
	server.Close()
	f.failed("renew", 2)
	etcdtest.StartWith(t, devetcd.Options{Dir: dir, Listen: server.Endpoint()})
	if l := f.renewed(); l.ID != old.ID || isClosed(changed) {
		t.Errorf("lease %x after %x, reported as changed: %v", l.ID, old.ID, isClosed(changed))
	}
}

func TestWipedEtcd(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	f := start(t, time.Hour, server.Endpoint()) // renewed after 20 minutes
	old := f.renewed()
	server.Close()
	etcdtest.StartWith(t, devetcd.Options{Listen: server.Endpoint()})
	f.granted(old)
}

// etcd does not answer a renewal of an expired lease until it has removed the lease, and
// it removes the lease only when it can write.
func TestExpiredLeaseThatIsNotRemoved(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	proxy, endpoint := proxied(t, server.Endpoint())
	f := start(t, time.Second, endpoint)
	old, release := f.lockWithLease(server.Etcd)
	defer release()
	proxy.PauseTx()
	retrytest.Eventually(t, "expiry", func() bool { return old.Remaining() < -time.Second })
	proxy.UnpauseTx()
	f.failed("renew", 3)
	if l, _ := f.Lease(); l.ID != old.ID {
		t.Errorf("lease %x is replaced by %x before etcd said that it is gone", old.ID, l.ID)
	}
	release()
	f.granted(old)
}

// lockWithLease stops etcd from writing until release is called, at a moment at which etcd
// has the session's lease. A slow machine may lose a lease before.
func (f *fixture) lockWithLease(etcd *etcdserver.EtcdServer) (l Lease, release func()) {
	f.t.Helper()
	retrytest.Eventually(f.t, "a lease when etcd stops writing", func() bool {
		write := etcd.KV().Write(traceutil.TODO())
		release = sync.OnceFunc(write.End)
		l, _ = f.Lease()
		if l.ID != 0 && l.Remaining() > 0 {
			return true
		}
		release()
		return false
	})
	return l, release
}

func TestOutOfSpace(t *testing.T) {
	t.Parallel()
	server := etcdtest.StartWith(t, devetcd.Options{Configure: func(c *embed.Config) { c.QuotaBackendBytes = 1 << 20 }})
	client := etcdtest.Client(t, server.Endpoint())
	f := start(t, 10*time.Second, server.Endpoint())
	old := f.renewed()
	value := string(make([]byte, 64<<10))
	retrytest.Eventually(t, "the alarm", func() bool {
		_, err := client.Put(t.Context(), "k", value)
		return errors.Is(err, rpctypes.ErrNoSpace)
	})
	late := start(t, 10*time.Second, server.Endpoint())
	late.failed("grant", 2)

	for range 3 {
		if l := f.renewed(); l.ID != old.ID {
			t.Fatalf("lease %x is replaced by %x", old.ID, l.ID)
		}
	}
	makeSpace(t, client, server.Endpoint())
	late.granted(Lease{})
}

// makeSpace clears a NOSPACE alarm as etcd's manual says.
func makeSpace(t *testing.T, client *clientv3.Client, endpoint string) {
	t.Helper()
	now, err := client.Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	_, compacted := client.Compact(t.Context(), now.Header.Revision, clientv3.WithCompactPhysical())
	_, defragmented := client.Defragment(t.Context(), endpoint)
	_, disarmed := client.AlarmDisarm(t.Context(), &clientv3.AlarmMember{})
	if err := errors.Join(compacted, defragmented, disarmed); err != nil {
		t.Fatal(err)
	}
}

func TestRunEnds(t *testing.T) {
	server := etcdtest.Start(t)
	proxy, endpoint := proxied(t, server.Endpoint())
	client := etcdtest.Client(t, endpoint)
	for _, test := range []struct {
		name  string
		reach func(start func() *fixture) *fixture // the state in which Run is ended
	}{
		{"between renewals", func(start func() *fixture) *fixture {
			f := start()
			f.renewed()
			return f
		}},
		{"renewing", func(start func() *fixture) *fixture {
			f := start()
			f.renewed()
			proxy.PauseRx()
			f.failed("renew", 1)
			return f
		}},
		{"granting", func(start func() *fixture) *fixture {
			proxy.PauseRx()
			f := start()
			f.failed("grant", 1)
			return f
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer proxy.UnpauseRx()
			if _, err := client.Get(t.Context(), "connect"); err != nil {
				t.Fatal(err)
			}
			ours := goleak.IgnoreCurrent()
			f := test.reach(func() *fixture { return startWith(t, 2*time.Second, client) })
			f.stop()
			proxy.UnpauseRx()
			if err := goleak.Find(ours); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	f := start(t, time.Minute, server.Endpoint())
	l := f.granted(Lease{})
	f.stop()
	client := etcdtest.Client(t, server.Endpoint())
	if r, err := client.TimeToLive(t.Context(), l.ID); err != nil || r.TTL <= 0 {
		t.Fatalf("after Run: TTL %v, %v; want the lease left to lapse", r, err)
	}
	_, changed := f.Lease()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Revoke(cancelled); !errors.Is(err, context.Canceled) {
		t.Errorf("revoke without time: %v", err)
	}
	for range 2 { // the second has nothing to do
		if err := f.Revoke(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := client.TimeToLive(t.Context(), l.ID); err != nil || r.TTL != -1 || !isClosed(changed) {
		t.Errorf("after Revoke: %v, %v, reported: %v", r, err, isClosed(changed))
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
