package registry

import (
	"testing"
	"time"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/lease"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// An instance that is removed after its write was prepared and before it was sent is
// forgotten: a record would stand under the lease for ever.
func TestRemovedBeforeItWasSent(t *testing.T) {
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	keys := discovery.NewKeys("default")
	r := New(client, keys, lease.New(client, 15*time.Second, lease.Options{}), nil, Identity{Owner: "o", Run: "r"}, Options{})
	granted, err := client.Grant(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"web-1", "web-2"} {
		r.Put(discovery.Instance{Service: "web", ID: id, Address: "127.0.0.1", Port: 80, Weight: 1, Slots: 1, Status: discovery.Passing})
	}
	batch := r.draft(func(it *item) bool { return it.due(granted.ID) })
	r.Remove("web", "web-1")
	if err := r.write(t.Context(), batch, granted.ID); err != nil {
		t.Fatal(err)
	}
	got, err := client.Get(t.Context(), "/disc/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Kvs) != 1 || string(got.Kvs[0].Key) != keys.Instance("web", "web-2") {
		t.Errorf("got %v, want web-2 alone", got.Kvs)
	}
}
