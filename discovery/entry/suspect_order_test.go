package entry_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"disc/discovery"
	"disc/discovery/devetcd"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/entry"
)

// level writes the feature level of the namespace.
func level(t *testing.T, client *clientv3.Client, level int) {
	t.Helper()
	if _, err := client.Put(t.Context(), keys.Level(), string(discovery.LevelRecord{Level: level}.Encode())); err != nil {
		t.Fatal(err)
	}
}

func TestOrderSuspects(t *testing.T) {
	t.Parallel()
	e, client := editor(t)
	level(t, client, discovery.LevelSuspectOrders)
	record(t, client, false)
	instances := []entry.Instance{{Service: "web", ID: "web-1"}}
	for n := range 120 {
		instances = append(instances, entry.Instance{Service: "db", ID: fmt.Sprint("db-", n)})
	}
	done, err := e.OrderSuspects(t.Context(), discovery.SuspectOrder{Order: discovery.DropSuspect, By: "me"}, 0, instances)
	if err != nil || len(done.Ordered) != 120 || !slices.Equal(done.Back, instances[:1]) {
		t.Fatalf("%d ordered, %v back, %v", len(done.Ordered), done.Back, err)
	}
	if v, _ := value(t, client, keys.SuspectOrder("web", "web-1")); v != "" {
		t.Errorf("what is registered has the order %s", v)
	}
	v, lease := value(t, client, keys.SuspectOrder("db", "db-7"))
	if o, err := discovery.DecodeSuspectOrder([]byte(v)); err != nil || o != done.Order || o.By != "me" || lease == 0 {
		t.Errorf("the order is %s on lease %d, %v", v, lease, err)
	}
	left, err := client.TimeToLive(t.Context(), clientv3.LeaseID(lease))
	if err != nil || left.GrantedTTL != int64(discovery.SuspectDropTTL/time.Second) {
		t.Errorf("it stays for %+v, %v", left, err)
	}
	done, err = e.OrderSuspects(t.Context(), discovery.SuspectOrder{Order: discovery.KeepSuspect}, 2*time.Hour, instances[7:8])
	if err != nil || len(done.Ordered) != 1 || done.Order.Until.Sub(done.Order.At) != 2*time.Hour {
		t.Errorf("kept: %+v, %v", done, err)
	}
}

// The lease of an order that was replaced goes when no other order is on it.
func TestReplacedOrdersLeaveNoLease(t *testing.T) {
	t.Parallel()
	e, client := editor(t)
	level(t, client, discovery.LevelSuspectOrders)
	instances := []entry.Instance{{Service: "web", ID: "web-1"}, {Service: "web", ID: "web-2"}}
	keep := func(instances []entry.Instance) {
		t.Helper()
		if _, err := e.OrderSuspects(t.Context(), discovery.SuspectOrder{Order: discovery.KeepSuspect}, time.Hour, instances); err != nil {
			t.Fatal(err)
		}
	}
	leases := func() int {
		t.Helper()
		list, err := client.Leases(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(list.Leases)
	}
	before := leases()
	keep(instances)
	keep(instances[:1])
	if n := leases(); n != before+2 {
		t.Errorf("%d leases while both have an order, want %d", n, before+2)
	}
	keep(instances[1:])
	if n := leases(); n != before+2 {
		t.Errorf("%d leases after the first was replaced, want %d", n, before+2)
	}
	if v, _ := value(t, client, keys.SuspectOrder("web", "web-1")); v == "" {
		t.Error("an order of another lease is gone")
	}
}

// unanswered commits transactions, and returns an error in place of the answer.
type unanswered struct{ clientv3.KV }

func (u unanswered) Txn(ctx context.Context) clientv3.Txn { return unansweredTxn{u.KV.Txn(ctx)} }

type unansweredTxn struct{ clientv3.Txn }

func (u unansweredTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	return unansweredTxn{u.Txn.Then(ops...)}
}

func (u unansweredTxn) Commit() (*clientv3.TxnResponse, error) {
	if _, err := u.Txn.Commit(); err != nil {
		return nil, err
	}
	return nil, context.DeadlineExceeded
}

// An order whose outcome is unknown may stand, so that its lease stays.
func TestOrderOfUnknownOutcomeKeepsItsLease(t *testing.T) {
	t.Parallel()
	e, client := editor(t)
	level(t, client, discovery.LevelSuspectOrders)
	client.KV = unanswered{client.KV}
	if _, err := e.OrderSuspects(t.Context(), discovery.SuspectOrder{Order: discovery.DropSuspect}, 0, []entry.Instance{{Service: "web", ID: "web-1"}}); err == nil {
		t.Fatal("there is no error")
	}
	if v, _ := value(t, client, keys.SuspectOrder("web", "web-1")); v == "" {
		t.Error("the order is gone")
	}
}

// An etcd may take fewer operations in a transaction than the default.
func TestOrderSuspectsWithFewOperations(t *testing.T) {
	t.Parallel()
	client := etcdtest.Client(t, etcdtest.StartWith(t, devetcd.Options{Configure: func(c *embed.Config) { c.MaxTxnOps = 7 }}).Endpoint())
	level(t, client, discovery.LevelSuspectOrders)
	var instances []entry.Instance
	for n := range 30 {
		instances = append(instances, entry.Instance{Service: "db", ID: fmt.Sprint("db-", n)})
	}
	done, err := entry.Editor{Client: client, Keys: keys}.OrderSuspects(t.Context(), discovery.SuspectOrder{Order: discovery.DropSuspect}, 0, instances)
	if err != nil || len(done.Ordered) != 30 {
		t.Errorf("%d are ordered, %v", len(done.Ordered), err)
	}
}

func TestOrderSuspectsRefused(t *testing.T) {
	t.Parallel()
	e, client := editor(t)
	for name, test := range map[string]struct {
		order string
		keep  time.Duration
		level int
		kind  error
		text  string
	}{
		"no such order":  {"eat", 0, 2, discovery.ErrInvalid, "use drop or keep"},
		"too long":       {"keep", 25 * time.Hour, 2, discovery.ErrInvalid, "1s to 24h"},
		"not at all":     {"keep", 0, 2, discovery.ErrInvalid, "1s to 24h"},
		"an older agent": {"drop", 0, 1, discovery.ErrConflict, "disc status"},
	} {
		t.Run(name, func(t *testing.T) {
			level(t, client, test.level)
			_, err := e.OrderSuspects(t.Context(), discovery.SuspectOrder{Order: test.order}, test.keep, []entry.Instance{{Service: "web", ID: "web-1"}})
			if !errors.Is(err, test.kind) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("the error is %v, want %q", err, test.text)
			}
			if v, _ := value(t, client, keys.SuspectOrder("web", "web-1")); v != "" {
				t.Errorf("the order %s is written", v)
			}
		})
	}
}
