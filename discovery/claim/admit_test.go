package claim

import (
	"errors"
	"strings"
	"testing"
	"time"

	"disc/discovery"
	"disc/discovery/catalog"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/life"
	"disc/discovery/lock"
	"disc/discovery/lock/locktest"
	"disc/discovery/quota"
)

// While etcd has no space nothing is claimed, and no caller waits for it.
func TestNoSpaceForClaims(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	client := etcdtest.Client(t, etcd.Endpoint())
	agent := locktest.StartWith(t, locktest.LongTTL, lock.Options{Space: quota.NewSpace(client, 0)}, etcd.Endpoint())
	c := newClaimant(t, agent, "a", catalog.WatchAll)
	register(t, client, "gpu-1", 1)
	c.sees("gpu", 1)
	etcdtest.RaiseNoSpace(t, client)
	if _, err := c.Claim(etcdtest.Context(t), "gpu", Request{Wait: time.Hour}); !errors.Is(err, discovery.ErrStorageFull) || !strings.Contains(err.Error(), "claim gpu: etcd has") {
		t.Error(err)
	}
	if n := agent.Transactions("claim"); n != 0 {
		t.Errorf("%v transactions were sent for it", n)
	}
}

// A caller that waits while nothing is granted is told so at the end of its wait, and not that no
// slot is free.
func TestWaitWhileNothingIsGranted(t *testing.T) {
	t.Parallel()
	a, _ := startPair(t)
	a.agent.Life().Block()
	if _, err := a.Claim(etcdtest.Context(t), "gpu", Request{Wait: uncertainTime + 200*time.Millisecond}); !life.Uncertain(err) {
		t.Errorf("got %v", err)
	}
}
