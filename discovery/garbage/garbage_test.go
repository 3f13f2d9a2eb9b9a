package garbage_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"disc/discovery"
	"disc/discovery/devetcd"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/garbage"
)

func TestMain(m *testing.M) { etcdtest.Main(m) }

var keys = discovery.NewKeys("default")

// namespace is a namespace in etcd, and a lease of a session that lives.
type namespace struct {
	t      *testing.T
	client *clientv3.Client
	lease  clientv3.LeaseID
}

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	n := &namespace{t: t, client: etcdtest.Client(t, etcdtest.Start(t).Endpoint())}
	n.lease = n.grant()
	return n
}

func (n *namespace) grant() clientv3.LeaseID {
	n.t.Helper()
	granted, err := n.client.Grant(n.t.Context(), 3600)
	if err != nil {
		n.t.Fatal(err)
	}
	return granted.ID
}

// put writes keys below the namespace, on a lease or with 0 on none.
func (n *namespace) put(lease clientv3.LeaseID, pairs ...string) {
	n.t.Helper()
	for k := 0; k < len(pairs); k += 2 {
		if _, err := n.client.Put(n.t.Context(), keys.Prefix()+pairs[k], pairs[k+1], clientv3.WithLease(lease)); err != nil {
			n.t.Fatal(err)
		}
	}
}

func (n *namespace) find() []garbage.Item {
	n.t.Helper()
	items, err := garbage.Find(n.t.Context(), n.client, keys)
	if err != nil {
		n.t.Fatal(err)
	}
	return items
}

// left returns the keys of the namespace.
func (n *namespace) left() (names []string) {
	n.t.Helper()
	r, err := n.client.Get(n.t.Context(), keys.Prefix(), clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		n.t.Fatal(err)
	}
	for _, kv := range r.Kvs {
		names = append(names, strings.TrimPrefix(string(kv.Key), keys.Prefix()))
	}
	return names
}

func names(items []garbage.Item) (names []string) {
	for _, i := range items {
		names = append(names, i.Key)
	}
	return names
}

func record(service, id, node, owner string) string {
	return string(discovery.Instance{Service: service, ID: id, Node: node, Owner: owner, Address: "10.0.0.1", Port: 80, Weight: 1, Slots: 1, Status: discovery.Passing}.Encode())
}

// owned is what somebody owns, whether on a lease or not.
func (n *namespace) owned() {
	n.put(n.lease,
		"nodes/n1/o1", `{"node":"n1","agent":"o1"}`, "services/web/instances/web-1", record("web", "web-1", "n1", "o1"),
		"services/web/load/web-1", `{"utilization":0.5}`, "services/web/suspects/web-9", `{"order":"keep"}`,
		"locks/a/1-x", `{"id":"1-x","node":"n1"}`, "claims/gpu/gpu-1/0", `{"id":"1-y","node":"n1"}`,
		"quarantine", "wiped", "level/checked", "2", "level/counting", "e", "usage/counted", "")
	n.put(0, "epoch", "e", "base", "7", "level/state", `{"level":2}`, "settings/quarantine", "{}", "usage/kv", "{}",
		"services/web/overrides/web-1", `{"state":"drain"}`, "services/web/overrides/gone", `{"state":"drain"}`,
		"services/db/static/main", record("db", "main", "", ""), "services/db/overrides/main", `{"weight":2}`,
		"limits/sms", `{"rate":5}`, "ledger/sms", `{"sold":1}`, "kv/services/a", "", "kv/locks/a/b", "",
		"services/web/later/web-1", "of a later version", "later/a", "of a later version")
}

// copied are keys that have lost their lease, of which nobody lives.
var copied = []string{
	"claims/gpu/gpu-2/0", `{"id":"2-y","node":"n2"}`, "level/checked", "2", "level/counting", "e", "locks/a/2-x", `{"id":"2-x","node":"n2"}`,
	"nodes/n2/o2", `{"node":"n2","agent":"o2"}`, "quarantine", "wiped", "services/web/instances/web-2", record("web", "web-2", "n2", "o2"),
	"services/web/load/web-2", `{"utilization":0.5}`, "services/web/suspects/web-2", `{"order":"keep"}`, "usage/counted", "",
}

func TestFindsNothingThatIsOwned(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.owned()
	n.put(0, "services/web/instances/web-3", record("web", "web-3", "n1", "o1")) // its agent lives and mends it
	if items := n.find(); len(items) > 0 {
		t.Errorf("found %v", names(items))
	}
}

func TestFindAndRemove(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.owned()
	before := n.left()
	n.put(0, copied...)
	n.put(0, "services/old/overrides/old-1", `{"state":"drain"}`, "ledger/old", `{"sold":1}`)
	var want []string
	for k := 0; k < len(copied); k += 2 {
		want = append(want, copied[k])
	}
	want = append(want, "services/old/overrides/old-1", "ledger/old")
	slices.Sort(want)
	items := n.find()
	if d := cmp.Diff(want, names(items)); d != "" {
		t.Fatalf("found (-want +got):\n%s", d)
	}
	for _, i := range items {
		if promised := i.What == "lock" || i.What == "claim" || i.What == "quarantine"; i.Promised != promised || i.Why == "" || i.What == "" {
			t.Errorf("%+v", i)
		}
	}
	removed, spared, err := garbage.Remove(t.Context(), n.client, items)
	if err != nil || len(removed) != len(items) || len(spared) > 0 {
		t.Errorf("removed %v, spared %v, %v", names(removed), names(spared), err)
	}
	gone := []string{"level/checked", "level/counting", "quarantine", "usage/counted"} // overwritten above
	before = slices.DeleteFunc(before, func(k string) bool { return slices.Contains(gone, k) })
	if d := cmp.Diff(before, n.left()); d != "" {
		t.Errorf("left (-want +got):\n%s", d)
	}
}

// What came back between the look and the removal is spared.
func TestRemoveSparesWhatCameBack(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.put(0, copied...)
	n.put(0, "services/old/overrides/old-1", `{"state":"drain"}`, "services/odd/overrides/odd-1", `{"state":"drain"}`, "ledger/old", `{"sold":1}`,
		"services/older/overrides/x", `{"weight":3}`)
	items := n.find()
	n.put(n.lease, copied...)
	n.put(n.lease, "services/old/instances/other", record("old", "other", "n1", "o1"))
	n.put(0, "services/odd/static/other", record("odd", "other", "", ""), "limits/old", `{"rate":5}`)
	before := n.left()
	removed, spared, err := garbage.Remove(t.Context(), n.client, items)
	if err != nil || !slices.Equal(names(removed), []string{"services/older/overrides/x"}) || len(spared) != len(items)-1 {
		t.Errorf("removed %v, spared %v, %v", names(removed), names(spared), err)
	}
	if left := n.left(); len(left) != len(before)-1 {
		t.Errorf("left: %v", left)
	}
}

func TestRemoveMany(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	for k := range 120 {
		n.put(0, fmt.Sprintf("services/old%d/overrides/x", k), `{"weight":3}`)
	}
	if removed, _, err := garbage.Remove(t.Context(), n.client, n.find()); err != nil || len(removed) != 120 || len(n.left()) > 0 {
		t.Errorf("removed %d, left %v, %v", len(removed), n.left(), err)
	}
}

func TestFindNode(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.owned()
	n.put(0, copied...)
	n.put(0, "level/state", `{"level":1,"behind":[{"node":"n2","agent":"o2","level":1},{"node":"n3","agent":"o3","level":1}],"later":true}`,
		"services/web/overrides/web-5", `{"state":"drain"}`)
	if _, err := garbage.FindNode(t.Context(), n.client, keys, "n1", nil); !errors.Is(err, discovery.ErrConflict) || !strings.Contains(err.Error(), "a session of node n1 lives") {
		t.Error(err)
	}
	if _, err := garbage.FindNode(t.Context(), n.client, keys, "", nil); !errors.Is(err, discovery.ErrInvalid) {
		t.Error(err)
	}
	items, err := garbage.FindNode(t.Context(), n.client, keys, "n2", []garbage.Instance{{Service: "web", ID: "web-5"}})
	want := []string{"claims/gpu/gpu-2/0", "level/state", "locks/a/2-x", "nodes/n2/o2", "services/web/instances/web-2", "services/web/overrides/web-5"}
	if d := cmp.Diff(want, names(items)); d != "" || err != nil {
		t.Fatalf("%v; found (-want +got):\n%s", err, d)
	}
	if removed, spared, err := garbage.Remove(t.Context(), n.client, items); err != nil || len(removed) != len(want) {
		t.Errorf("spared %v, %v", names(spared), err)
	}
	got, err := n.client.Get(t.Context(), keys.Level())
	if err != nil || len(got.Kvs) != 1 || strings.Contains(string(got.Kvs[0].Value), `"n2"`) || !strings.Contains(string(got.Kvs[0].Value), `"n3"`) || !strings.Contains(string(got.Kvs[0].Value), "later") {
		t.Errorf("the feature level is %v, %v", got, err)
	}
	if items, err := garbage.FindNode(t.Context(), n.client, keys, "n2", nil); err != nil || len(items) > 0 {
		t.Errorf("found once more %v, %v", names(items), err)
	}
}

// The session of a node ends before its keys are gone.
func TestFindNodeWaitsForTheSession(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.put(n.lease, "services/web/instances/web-1", record("web", "web-1", "n1", "o1"))
	if _, err := garbage.FindNode(t.Context(), n.client, keys, "n1", nil); !errors.Is(err, discovery.ErrConflict) {
		t.Error(err)
	}
	if _, err := n.client.Revoke(t.Context(), n.lease); err != nil {
		t.Fatal(err)
	}
	if items, err := garbage.FindNode(t.Context(), n.client, keys, "n1", nil); err != nil || len(items) > 0 {
		t.Errorf("found %v, %v", names(items), err)
	}
}

// A tombstone is on a lease of its own, which outlasts the session.
func TestTombstoneIsNoSession(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	gone := discovery.Instance{Service: "web", ID: "web-1", Node: "n1", Owner: "o1", Address: "10.0.0.1", Port: 80, Weight: 1, Slots: 1, Status: discovery.Passing, Leaving: true}
	n.put(n.lease, "services/web/instances/web-1", string(gone.Encode()))
	n.put(0, "nodes/n1/o1", `{"node":"n1","agent":"o1"}`)
	items, err := garbage.FindNode(t.Context(), n.client, keys, "n1", nil)
	if err != nil || !slices.Equal(names(items), []string{"nodes/n1/o1"}) {
		t.Errorf("found %v, %v", names(items), err)
	}
}

// expiring answers that a lease has less than a second left, or that it has expired and is not
// revoked yet.
type expiring struct {
	clientv3.Lease
	ttl int64
}

func (e expiring) TimeToLive(context.Context, clientv3.LeaseID, ...clientv3.LeaseOption) (*clientv3.LeaseTimeToLiveResponse, error) {
	return &clientv3.LeaseTimeToLiveResponse{TTL: e.ttl, GrantedTTL: 15}, nil
}

func TestExpiringLeaseHasNotEnded(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.put(n.lease, "nodes/n1/o1", `{"node":"n1","agent":"o1"}`)
	for _, ttl := range []int64{0, -1} {
		n.client.Lease = expiring{n.client.Lease, ttl}
		if _, err := garbage.FindNode(t.Context(), n.client, keys, "n1", nil); !errors.Is(err, discovery.ErrConflict) || !strings.Contains(err.Error(), "ends in 0s") {
			t.Errorf("with a TTL of %d: %v", ttl, err)
		}
	}
}

// A record without a lease is garbage, and keeps no override from being that.
func TestOverrideOfACopiedInstance(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.put(0, "services/old/instances/old-1", record("old", "old-1", "n2", "o2"), "services/old/overrides/old-1", `{"state":"drain"}`)
	items := n.find()
	want := []string{"services/old/instances/old-1", "services/old/overrides/old-1"}
	if !slices.Equal(names(items), want) || items[1].Service != "old" || !strings.Contains(items[1].Why, "state drain") {
		t.Fatalf("found %+v", items)
	}
	if removed, _, err := garbage.Remove(t.Context(), n.client, items); err != nil || len(removed) != 2 || len(n.left()) > 0 {
		t.Errorf("removed %v, left %v, %v", names(removed), n.left(), err)
	}
}

// An etcd may take fewer operations in a transaction than the default.
func TestRemoveWithFewOperations(t *testing.T) {
	t.Parallel()
	s := etcdtest.StartWith(t, devetcd.Options{Configure: func(c *embed.Config) { c.MaxTxnOps = 7 }})
	n := &namespace{t: t, client: etcdtest.Client(t, s.Endpoint())}
	for k := range 30 {
		n.put(0, fmt.Sprintf("services/old%d/overrides/x", k), `{"weight":3}`)
	}
	if removed, _, err := garbage.Remove(t.Context(), n.client, n.find()); err != nil || len(removed) != 30 || len(n.left()) > 0 {
		t.Errorf("removed %d, left %v, %v", len(removed), n.left(), err)
	}
}
