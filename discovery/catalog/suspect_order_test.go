package catalog

import (
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
	"disc/discovery/view"
)

// order writes an order of an operator on an instance of web; "" removes it.
func (sim *simulation) order(n int, value string) {
	sim.revision++
	sim.lastOrder = view.Change{Key: discovery.Key{Kind: discovery.KeySuspectOrder, Service: "web", ID: fmt.Sprintf("i%03d", n)}, Modified: sim.revision}
	if value != "" {
		sim.lastOrder.Value, sim.lastOrder.Lease = []byte(value), 8
	}
	sim.applyOrders([]view.Change{sim.lastOrder})
	sim.resolveAll()
}

// listOrder lists the last order, and no other.
func (sim *simulation) listOrder(startedOver bool) {
	sim.replaceOrders([]view.Change{sim.lastOrder}, func(discovery.Key) bool { return true }, startedOver)
	sim.resolveAll()
}

func TestSuspectOrders(t *testing.T) {
	t.Parallel()
	simulate(t, map[string]simulated{
		"one is dropped by order": {func(sim *simulation) {
			sim.up("web", 0, 10)
			sim.die("web", 0, 5)
			sim.order(2, `{"order":"drop"}`)
		}, "9 4"},
		"one is dropped by order before it is a suspect": {func(sim *simulation) {
			sim.up("web", 0, 10)
			sim.apply(sim.change("web", 2, ""))
			sim.order(2, `{"order":"drop"}`)
		}, "9 0"},
		"an order to drop what lives": {func(sim *simulation) {
			sim.up("web", 0, 10)
			sim.order(2, `{"order":"drop"}`)
			sim.die("web", 0, 5)
		}, "10 5"},
		"an order is carried out once": {func(sim *simulation) {
			sim.up("web", 0, 10)
			sim.die("web", 0, 5)
			sim.order(2, `{"order":"drop"}`)
			sim.up("web", 2, 3)
			sim.die("web", 2, 3)
			sim.listOrder(false)
		}, "10 5"},
		"an order without a lease": {func(sim *simulation) {
			sim.up("web", 0, 10)
			sim.die("web", 0, 5)
			sim.revision++
			sim.applyOrders([]view.Change{{Key: discovery.Key{Kind: discovery.KeySuspectOrder, Service: "web", ID: "i002"}, Modified: sim.revision, Value: []byte(`{"order":"drop"}`)}})
		}, "10 5"},
		"an old order when etcd has started over": {func(sim *simulation) {
			sim.up("web", 0, 10)
			sim.order(2, `{"order":"drop"}`)
			sim.die("web", 0, 5)
			sim.listOrder(true)
			sim.listOrder(false)
		}, "10 5"},
		"a new order after etcd has started over": {func(sim *simulation) {
			sim.up("web", 0, 10)
			sim.order(2, `{"order":"drop"}`)
			sim.die("web", 0, 5)
			sim.listOrder(true)
			sim.order(2, `{"order":"drop"}`)
		}, "9 4"},
		"kept, and etcd starts over": {func(sim *simulation) {
			sim.up("web", 0, 10)
			sim.die("web", 0, 5)
			sim.order(2, `{"order":"keep"}`)
			sim.listOrder(true)
			sim.wait(time.Hour)
		}, "5 0"},
		"kept by order": {func(sim *simulation) {
			sim.up("web", 0, 10)
			sim.die("web", 0, 5)
			sim.order(2, `{"order":"keep"}`)
			sim.massLossDetector.failProbe(instanceKey{"web", "i002"})
			sim.wait(time.Hour)
		}, "6 1"},
		"kept by order until that ends": {func(sim *simulation) {
			sim.up("web", 0, 10)
			sim.die("web", 0, 5)
			sim.order(2, `{"order":"keep"}`)
			sim.wait(time.Hour)
			sim.order(2, "")
		}, "5 0"},
		"kept by order for less than ten minutes": {func(sim *simulation) {
			sim.up("web", 0, 10)
			sim.die("web", 0, 5)
			sim.order(2, `{"order":"keep"}`)
			sim.wait(time.Minute)
			sim.order(2, "")
		}, "10 5"},
		"kept by order until the list lacks that": {func(sim *simulation) {
			sim.up("web", 0, 10)
			sim.die("web", 0, 5)
			sim.order(2, `{"order":"keep"}`)
			sim.wait(time.Hour)
			sim.replaceOrders(nil, func(discovery.Key) bool { return true }, false)
		}, "5 0"},
		"one that vanishes alone is kept by order": {func(sim *simulation) {
			sim.up("web", 0, 10)
			sim.die("web", 2, 3)
			sim.order(2, `{"order":"keep"}`)
		}, "10 1"},
		"an order to keep what lives": {func(sim *simulation) {
			sim.up("web", 0, 10)
			sim.order(2, `{"order":"keep"}`)
			sim.die("web", 2, 3)
		}, "9 0"},
		"kept by order until it returns": {func(sim *simulation) {
			sim.up("web", 0, 10)
			sim.die("web", 0, 5)
			sim.order(2, `{"order":"keep"}`)
			sim.up("web", 0, 5)
			sim.wait(time.Hour)
			sim.die("web", 2, 3)
			sim.listOrder(false)
		}, "9 0"},
		"kept by order until it leaves": {func(sim *simulation) {
			sim.up("web", 0, 10)
			sim.die("web", 0, 5)
			sim.order(2, `{"order":"keep"}`)
			sim.leave("web", 2, 3)
			sim.up("web", 0, 5)
			sim.wait(time.Hour)
			sim.die("web", 2, 3)
		}, "9 0"},
		"kept again after it has returned": {func(sim *simulation) {
			sim.up("web", 0, 10)
			sim.die("web", 0, 5)
			sim.order(2, `{"order":"keep"}`)
			sim.up("web", 0, 5)
			sim.wait(time.Hour)
			sim.die("web", 2, 3)
			sim.order(2, `{"order":"keep"}`)
		}, "10 1"},
		"kept, and then dropped by order": {func(sim *simulation) {
			sim.up("web", 0, 10)
			sim.die("web", 0, 5)
			sim.order(2, `{"order":"keep"}`)
			sim.order(2, `{"order":"drop"}`)
		}, "9 4"},
		"an order that nobody knows": {func(sim *simulation) {
			sim.up("web", 0, 10)
			sim.die("web", 0, 5)
			sim.order(2, `{"order":"eat"}`)
		}, "10 5"},
	})
}

// An instance that a list shows to be back is kept no longer, though the order is still in etcd.
func TestListEndsTheKeep(t *testing.T) {
	t.Parallel()
	f, link := linked(t, Options{MassLoss: &MassLossGuard{burstPause: longBurstPause}})
	a := f.agents(5, "web")
	f.settled()
	a.die(0, 5)
	f.suspectsAre(5)
	lease := etcdtest.Must(f.etcd.Grant(t.Context(), 3600))
	etcdtest.Must(f.etcd.Put(t.Context(), keys.SuspectOrder("web", "i0000"), `{"order":"keep"}`, clientv3.WithLease(lease.ID)))
	kept := func() bool { return f.SuspectOrder("web", "i0000").Order == discovery.KeepSuspect }
	retrytest.Eventually(t, "the order", kept)
	link.Freeze()
	a.register(0, 5)
	link.Cut()
	link.Mend()
	f.suspectsAre(0)
	if kept() {
		t.Error("the order has an effect still")
	}
}
