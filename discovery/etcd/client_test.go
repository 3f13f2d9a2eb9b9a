package etcd_test

import (
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/etcd"
)

// A client that watches sends next to nothing: etcd would have to read and answer it for
// each event and each of thousands of clients.
func TestWatchingIsSilent(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	link := etcdtest.StartLink(t, s.Endpoint())
	client, err := etcd.Dial(t.Context(), etcd.Config{Endpoints: []string{link.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	writer, ctx := etcdtest.Client(t, s.Endpoint()), timeout(t)
	events := client.Watch(ctx, "key", clientv3.WithCreatedNotify())
	if e := <-events; !e.Created {
		t.Fatal("the watch did not begin:", e.Err())
	}
	const changes = 200
	before := link.Sent()
	for range changes {
		if _, err := writer.Put(ctx, "key", "value"); err != nil {
			t.Fatal(err)
		}
		if e, ok := <-events; !ok || e.Err() != nil {
			t.Fatal("the watch ended:", e.Err())
		}
	}
	if sent := link.Sent() - before; sent > 5*changes { // a ping has 17 bytes
		t.Errorf("%d bytes were sent while %d events came", sent, changes)
	}
}
