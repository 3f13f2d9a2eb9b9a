package catalog

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
	"disc/discovery/view"
)

// writer changes a namespace at random, except for one service that is always complete.
type writer struct {
	t      *testing.T
	client *clientv3.Client
	random *rand.Rand
	leases []clientv3.LeaseID
}

// whole is a service that has all of its instances at every revision.
const whole, members = "whole", 5

func (w *writer) step() {
	ctx := context.Background()
	service := fmt.Sprint("s", w.random.IntN(4))
	id := fmt.Sprint("i", w.random.IntN(6))
	port := fmt.Sprint(1 + w.random.IntN(9000))
	value := strings.Replace(record(service, id), "80", port, 1)
	var ops []clientv3.Op
	switch w.random.IntN(10) {
	case 0, 1:
		ops = append(ops, clientv3.OpDelete(keys.Instance(service, id)))
	case 2:
		ops = append(ops, clientv3.OpDelete(keys.Service(service), clientv3.WithPrefix()))
	case 3:
		ops = append(ops, clientv3.OpPut(keys.Override(service, id), `{"weight":`+port+`}`), clientv3.OpPut(keys.Load(service, id), `{"utilization":0.`+port+`}`))
	case 4:
		ops = append(ops, clientv3.OpPut(keys.Instance(service, id), "junk "+port), clientv3.OpPut(keys.Services()+"alien/"+id, port))
	case 5:
		ops = append(ops, clientv3.OpPut(keys.Node("n"+id, "o"), `{"node":"n"}`), clientv3.OpDelete(keys.Static(service, id)))
	case 6:
		if lease, err := w.client.Grant(ctx, 60); err == nil {
			w.leases = append(w.leases, lease.ID)
			ops = append(ops, clientv3.OpPut(keys.Instance(service, id), value, clientv3.WithLease(lease.ID)))
		}
	case 7:
		if len(w.leases) > 0 {
			w.client.Revoke(ctx, w.leases[0])
			w.leases = w.leases[1:]
		}
	default:
		ops = append(ops, clientv3.OpPut(keys.Instance(service, id), value), clientv3.OpPut(keys.Static(service, id), value))
	}
	for n := range members {
		member := fmt.Sprint("m", n)
		ops = append(ops, clientv3.OpPut(keys.Instance(whole, member), strings.Replace(record(whole, member), "80", port, 1)))
	}
	if _, err := w.client.Txn(ctx).Then(ops...).Commit(); err != nil {
		w.t.Error(err)
	}
}

// read checks each view until done: none is empty or incomplete, and the revision never
// goes back.
func read(t *testing.T, c *Catalog, done <-chan struct{}) {
	var last int64
	for !isClosed(done) {
		changed := c.Changed(whole)
		v, err := c.View()
		if err != nil {
			t.Errorf("no view: %v", err)
			return
		}
		if v.Snapshot.Revision() < last {
			t.Errorf("view of %d after %d", v.Snapshot.Revision(), last)
			return
		}
		last = v.Snapshot.Revision()
		service, ok := v.Snapshot.Service(whole)
		if !ok || len(service.Entries()) != members {
			t.Errorf("the view of %d is incomplete: %v", last, service)
			return
		}
		for _, e := range service.Entries() {
			if e.Port != service.Entries()[0].Port {
				t.Errorf("the view of %d has half a transaction", last)
				return
			}
		}
		select {
		case <-changed:
		case <-done:
		}
	}
}

// A view never has a gap, whatever happens to the connection to etcd during writes.
func TestNoGaps(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	link := etcdtest.StartLink(t, s.Endpoint())
	seed := rand.Uint64()
	t.Log("seed", seed)
	w := &writer{t: t, client: etcdtest.Client(t, s.Endpoint()), random: rand.New(rand.NewPCG(seed, 0))}
	w.step()
	f := start(t, s.Endpoint(), link.Endpoint(), Options{Life: anyLife})
	from := f.settled()

	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() { read(t, f.Catalog, done) })
	}
	for round := range 12 {
		if round%3 == 1 {
			link.Freeze()
		}
		for range 40 {
			w.step()
		}
		if round%3 == 2 {
			if _, err := w.client.Compact(t.Context(), f.put(keys.Prefix()+"mark", "")); err != nil {
				t.Fatal(err)
			}
		}
		link.Cut()
		link.Mend()
	}
	to := f.settled()
	close(done)
	readers.Wait()
	replayed(t, f, from, to)
	_, broken := f.truth()
	retrytest.Eventually(f.t, "the broken ones to be counted", func() bool { return f.Health().Broken == len(broken) })
	if f.Health().Resyncs == 0 {
		t.Error("nothing was disturbed")
	}
}

// Ten thousand deletions at once make few views.
func TestBurst(t *testing.T) {
	t.Parallel()
	const n = 10_000
	s := etcdtest.Start(t)
	client := etcdtest.Client(t, s.Endpoint())
	fill(t, client, "web", n, func(id string) string { return record("web", id) })
	f := start(t, s.Endpoint(), s.Endpoint(), Options{})
	retrytest.Eventually(f.t, "a view", func() bool { return f.snapshot() != nil })
	done := make(chan struct{})
	views := make(chan int)
	go func() {
		seen := map[*view.Snapshot]bool{}
		for !isClosed(done) {
			changed := f.Changed("")
			seen[f.snapshot()] = true
			select {
			case <-changed:
			case <-done:
			}
		}
		views <- len(seen)
	}()
	var last int64
	for first := 0; first < n; first += 100 {
		var gone []clientv3.Op
		for i := range 100 {
			gone = append(gone, clientv3.OpDelete(keys.Instance("web", fmt.Sprintf("i%06d", first+i))))
		}
		txn, err := client.Txn(t.Context()).Then(gone...).Commit()
		if err != nil {
			t.Fatal(err)
		}
		last = txn.Header.Revision
	}
	f.reached(last)
	close(done)
	if got := <-views; got > 1+n/100 {
		t.Errorf("%d views of %d revisions", got, n/100)
	}
	if service := mustService(t, f.snapshot(), "web"); !service.Empty() {
		t.Errorf("%d are left", len(service.Entries()))
	}
}
