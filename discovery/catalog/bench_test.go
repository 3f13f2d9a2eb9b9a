package catalog

import (
	"fmt"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/reflector"
)

// BenchmarkApply measures one change of an instance, from the watch to its waiters, by the
// size of its service and of the catalog.
func BenchmarkApply(b *testing.B) {
	for _, size := range []struct{ service, all int }{{10, 100}, {10, 100_000}, {1000, 1000}, {1000, 100_000}} {
		b.Run(fmt.Sprintf("%d-of-%d", size.service, size.all), func(b *testing.B) {
			c, revision := benchCatalog(b, size.service, size.all)
			kv := &mvccpb.KeyValue{Key: []byte(keys.Instance("service-0", "i3")), CreateRevision: 1, Lease: 7}
			values := [2][]byte{[]byte(benchRecord("service-0", 3, 1)), []byte(benchRecord("service-0", 3, 2))}
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				revision++
				kv.ModRevision, kv.Value = revision, values[n%2]
				changed := c.Changed("service-0")
				reflectorStore{c}.Apply(reflector.Update{Events: []*clientv3.Event{{Kv: kv}}, Revision: revision, Epoch: "life"})
				<-changed
			}
		})
	}
}

// benchCatalog returns a catalog with a mass-loss guard and a number of instances in services
// of a size, and its revision.
func benchCatalog(b *testing.B, service, all int) (*Catalog, int64) {
	b.Helper()
	c := etcdtest.Must(New(nil, keys, Options{MassLoss: &MassLossGuard{}}))
	var events []*clientv3.Event
	for n := range all {
		name, id := fmt.Sprintf("service-%d", n/service), fmt.Sprintf("i%d", n%service)
		kv := &mvccpb.KeyValue{Key: []byte(keys.Instance(name, id)), Value: []byte(benchRecord(name, n%service, 1)), CreateRevision: 1, ModRevision: 1, Lease: 7}
		events = append(events, &clientv3.Event{Kv: kv})
	}
	reflectorStore{c}.Apply(reflector.Update{Revision: 1, Epoch: "life", Confirmed: time.Now()})
	reflectorStore{c}.Apply(reflector.Update{Events: events, Revision: 1, Epoch: "life"})
	if _, instances, _ := c.snapshot().Len(); instances != all {
		b.Fatalf("%d of %d instances are shown", instances, all)
	}
	return c, 1
}

// benchRecord returns an instance's record as its agent writes it.
func benchRecord(service string, n, weight int) string {
	i := discovery.Instance{
		Service: service, ID: fmt.Sprintf("i%d", n), Node: fmt.Sprintf("host-%d", n), Address: fmt.Sprintf("10.0.%d.%d", n>>8&255, n&255), Port: 8080,
		Zone: "eu-west-1a", Weight: weight, Tags: []string{"v2"}, Meta: map[string]string{"Team": "core"}, Status: discovery.Passing,
		Checks: []discovery.CheckStatus{{ID: "http", Type: "http", Status: discovery.Passing}}, Slots: 1,
		Owner: fmt.Sprintf("owner-%016x", n), Run: fmt.Sprintf("run-%016x", n), RegisteredAt: time.Unix(1767323045, 0).UTC(),
	}
	return string(i.Encode())
}
