package catalog

import (
	"testing"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

// The same works with an etcd process that is killed, comes back, and cannot stream lists.
func TestEtcdProcess(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.StartCluster(t, 1, "--heartbeat-interval", "10", "--election-timeout", "100")
	link := etcdtest.StartLink(t, etcd.Endpoints()[0])
	client := etcd.Client()
	fill(t, client, "web", 2500, func(id string) string { return record("web", id) })
	f := start(t, etcd.Endpoints()[0], link.Endpoint(), Options{Life: anyLife})
	retrytest.Eventually(f.t, "a view", func() bool { return f.snapshot() != nil })
	before := f.settled()
	if n := len(mustService(t, before, "web").Entries()); n != 2500 {
		t.Fatalf("%d instances are listed", n)
	}
	confirmed := f.state.Load().confirmed
	retrytest.Eventually(f.t, "a confirmation", func() bool { return f.state.Load().confirmed.After(confirmed) })

	etcd.Kill()
	retrytest.Eventually(f.t, "the loss to be noticed", func() bool { return f.Health().Err != nil })
	etcd.Start()
	f.register("web", "after")
	retrytest.Eventually(f.t, "the process to be back", func() bool { return f.Health().Err == nil })
	if now := f.settled(); now.Epoch() != before.Epoch() {
		t.Errorf("epoch %q after %q", now.Epoch(), before.Epoch())
	}

	link.Freeze()
	fill(t, client, "db", many+200, func(id string) string { return record("db", id) })
	if _, err := client.Compact(t.Context(), f.remove(keys.Instance("web", "after"))); err != nil {
		t.Fatal(err)
	}
	link.Cut()
	link.Mend()
	last := f.settled()
	replayed(t, f, before, last)

	etcd.Kill()
	etcd.Members[0].Wipe()
	etcd.Start()
	f.register("web", "new")
	retrytest.Eventually(f.t, "the new epoch", func() bool { return f.snapshot().Epoch() != before.Epoch() })
	if now := f.settled(); len(mustService(t, now, "web").Entries()) != 1 || !mustService(t, now, "db").Empty() {
		t.Error("the view is not that of the wiped etcd")
	}
}
