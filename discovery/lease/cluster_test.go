package lease

import (
	"testing"
	"time"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// Without a quorum no lease expires, however long the outage: silence is not loss.
func TestSilenceIsNotLoss(t *testing.T) {
	t.Parallel()
	c := etcdtest.StartCluster(t, 3)
	f := start(t, 3*time.Second, c.Endpoints()...)
	old := f.renewed()
	_, changed := f.Lease()
	c.Members[1].Kill()
	c.Members[2].Kill()
	retrytest.Eventually(t, "a silence longer than the TTL", func() bool {
		l, _ := f.Lease()
		return l.Remaining() < 0
	})
	c.Start()
	if l := f.renewed(); l.ID != old.ID || isClosed(changed) {
		t.Errorf("lease %x after %x, reported as changed: %v", l.ID, old.ID, isClosed(changed))
	}
}

// etcd is frozen, continued, killed and started again.
func TestProcess(t *testing.T) {
	t.Parallel()
	c := etcdtest.StartCluster(t, 1)
	etcd := c.Members[0]
	f := start(t, 10*time.Second, etcd.Endpoint())
	old := f.renewed()
	_, changed := f.Lease()

	etcd.Pause()
	f.Verify(old.ID)
	f.failed("renew", 1)
	etcd.Continue()
	f.renewed()
	etcd.Kill()
	f.failed("renew", 2)
	c.Start()
	if l := f.renewed(); l.ID != old.ID || isClosed(changed) {
		t.Errorf("lease %x after %x, reported as changed: %v", l.ID, old.ID, isClosed(changed))
	}
}
