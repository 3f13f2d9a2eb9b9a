package entry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/entry"
	"disc/discovery/etcd"
)

func TestMain(m *testing.M) { etcdtest.Main(m) }

var keys = discovery.NewKeys("default")

func editor(t *testing.T) (entry.Editor, *clientv3.Client) {
	t.Helper()
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	return entry.Editor{Client: client, Keys: keys}, client
}

// at returns an edit that sets the address of a static entry.
func at(address string) func(discovery.Instance) (discovery.Instance, error) {
	return func(i discovery.Instance) (discovery.Instance, error) {
		i.Address, i.Port = address, 5432
		return i, nil
	}
}

// drain is an edit that sets the state drain.
func drain(o discovery.Override) (discovery.Override, error) {
	o.State = discovery.Drain
	return o, nil
}

// record writes an agent's record of web/web-1.
func record(t *testing.T, client *clientv3.Client, leaving bool) {
	t.Helper()
	i := discovery.Instance{Service: "web", ID: "web-1", Node: "host-7", Address: "10.0.0.1", Port: 80, Weight: 1, Slots: 1,
		Status: discovery.Passing, Owner: "o", Run: "r", Leaving: leaving}
	if _, err := client.Put(t.Context(), keys.Instance("web", "web-1"), string(i.Encode())); err != nil {
		t.Fatal(err)
	}
}

// value returns the value of a key; "" if there is none.
func value(t *testing.T, client *clientv3.Client, key string) (value string, lease int64) {
	t.Helper()
	got, err := client.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range got.Kvs {
		return string(kv.Value), kv.Lease
	}
	return "", 0
}

func TestStaticEntry(t *testing.T) {
	e, client := editor(t)
	made, err := e.PutStatic(t.Context(), "db", "a", at("10.0.0.5"), entry.Options{})
	if err != nil || made.Before != nil || made.After == nil || made.After.Revision != made.Revision || made.After.Status != discovery.Passing {
		t.Fatalf("made %+v, %v", made, err)
	}
	same, err := e.PutStatic(t.Context(), "db", "a", at("10.0.0.5"), entry.Options{})
	if err != nil || same.Revision != 0 {
		t.Errorf("repeated: %+v, %v; want nothing written", same, err)
	}
	if _, err := e.PutStatic(t.Context(), "db", "a", at("no address"), entry.Options{}); !errors.Is(err, discovery.ErrInvalid) {
		t.Errorf("a bad address: %v", err)
	}
	gone, err := e.Remove(t.Context(), "db", "a", entry.Targets{Static: true, Override: true}, entry.Options{})
	if err != nil || gone.Before == nil || gone.After != nil {
		t.Errorf("removed %+v, %v", gone, err)
	}
	if v, _ := value(t, client, keys.Static("db", "a")); v != "" {
		t.Errorf("after the removal there is %s", v)
	}
	if _, err := e.Remove(t.Context(), "db", "a", entry.Targets{Static: true, Override: true}, entry.Options{}); !errors.Is(err, discovery.ErrNotFound) {
		t.Errorf("removed again: %v, want not found", err)
	}
}

func TestStaticEntryWithTTL(t *testing.T) {
	e, client := editor(t)
	if _, err := e.PutStatic(t.Context(), "db", "a", at("10.0.0.5"), entry.Options{TTL: 90 * time.Second}); err != nil {
		t.Fatal(err)
	}
	_, lease := value(t, client, keys.Static("db", "a"))
	left, err := client.TimeToLive(t.Context(), clientv3.LeaseID(lease))
	if err != nil || left.GrantedTTL != 90 {
		t.Errorf("lease %x is of %+v, %v; want 90 s", lease, left, err)
	}
	if _, err := e.PutStatic(t.Context(), "db", "a", at("10.0.0.5"), entry.Options{}); err != nil {
		t.Fatal(err)
	}
	if _, lease := value(t, client, keys.Static("db", "a")); lease != 0 {
		t.Error("without a TTL the entry still has a lease")
	}
}

func TestStaticEntryWhereAnAgentIs(t *testing.T) {
	e, client := editor(t)
	record(t, client, false)
	var conflict *discovery.ConflictError
	if _, err := e.PutStatic(t.Context(), "web", "web-1", at("10.0.0.5"), entry.Options{}); !errors.As(err, &conflict) || conflict.Node != "host-7" {
		t.Errorf("%v, want a conflict that names the node", err)
	}
	record(t, client, true)
	if _, err := e.PutStatic(t.Context(), "web", "web-1", at("10.0.0.5"), entry.Options{}); err != nil {
		t.Errorf("over a tombstone: %v", err)
	}
}

func TestOverride(t *testing.T) {
	e, client := editor(t)
	if _, err := e.Override(t.Context(), "web", "web-1", drain, entry.Options{}); !errors.Is(err, discovery.ErrNotFound) {
		t.Errorf("without an instance: %v, want not found", err)
	}
	record(t, client, false)
	change, err := e.Override(t.Context(), "web", "web-1", drain, entry.Options{})
	if err != nil || change.Before.State != discovery.Up || change.After.State != discovery.Drain {
		t.Fatalf("%+v, %v", change, err)
	}
	if _, _, err := e.Patch(t.Context(), "web", "web-1", []byte(`{"state":null}`)); err != nil {
		t.Fatal(err)
	}
	if v, _ := value(t, client, keys.Override("web", "web-1")); v != "" {
		t.Errorf("an empty override stays: %s", v)
	}
}

func TestUnknownFieldsStay(t *testing.T) {
	e, client := editor(t)
	record(t, client, false)
	if _, err := client.Put(t.Context(), keys.Override("web", "web-1"), `{"weight":3,"of_a_later_version":{"a":1}}`); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Override(t.Context(), "web", "web-1", drain, entry.Options{}); err != nil {
		t.Fatal(err)
	}
	v, _ := value(t, client, keys.Override("web", "web-1"))
	var fields map[string]any
	if err := json.Unmarshal([]byte(v), &fields); err != nil || fields["state"] != "drain" || fields["weight"] != 3.0 || fields["of_a_later_version"] == nil {
		t.Errorf("%s, %v", v, err)
	}
}

// An override that is empty for this version stays while it has what a later version wrote.
func TestUnknownFieldsOutlastTheKnown(t *testing.T) {
	e, client := editor(t)
	record(t, client, false)
	if _, err := client.Put(t.Context(), keys.Override("web", "web-1"), `{"state":"drain","of_a_later_version":1}`); err != nil {
		t.Fatal(err)
	}
	undrain := func(o discovery.Override) (discovery.Override, error) { o.State = ""; return o, nil }
	if _, err := e.Override(t.Context(), "web", "web-1", undrain, entry.Options{}); err != nil {
		t.Fatal(err)
	}
	if v, _ := value(t, client, keys.Override("web", "web-1")); v != `{"of_a_later_version":1}` {
		t.Errorf("the override is %q", v)
	}
	if _, err := e.Remove(t.Context(), "web", "web-1", entry.Targets{Override: true}, entry.Options{}); err != nil {
		t.Fatal(err)
	}
	if v, _ := value(t, client, keys.Override("web", "web-1")); v != "" {
		t.Errorf("the override is %q after it was removed", v)
	}
}

func TestIfRevisionAndDryRun(t *testing.T) {
	e, client := editor(t)
	absent, wrong := int64(0), int64(1)
	if _, err := e.PutStatic(t.Context(), "db", "a", at("10.0.0.5"), entry.Options{DryRun: true, TTL: time.Minute}); err != nil {
		t.Fatal(err)
	}
	if v, _ := value(t, client, keys.Static("db", "a")); v != "" {
		t.Errorf("a dry run wrote %s", v)
	}
	made, err := e.PutStatic(t.Context(), "db", "a", at("10.0.0.5"), entry.Options{IfRevision: &absent})
	if err != nil {
		t.Fatal(err)
	}
	for _, revision := range []*int64{&absent, &wrong} {
		if _, err := e.PutStatic(t.Context(), "db", "a", at("10.0.0.6"), entry.Options{IfRevision: revision}); !errors.Is(err, discovery.ErrConflict) {
			t.Errorf("with IfRevision %d: %v, want a conflict", *revision, err)
		}
	}
	if _, err := e.PutStatic(t.Context(), "db", "a", at("10.0.0.6"), entry.Options{IfRevision: &made.Revision}); err != nil {
		t.Errorf("with IfRevision of the entry: %v", err)
	}
}

// TestNoEditIsLost makes several edits of one override at once.
func TestNoEditIsLost(t *testing.T) {
	e, client := editor(t)
	record(t, client, false)
	const editors = 8
	var all sync.WaitGroup
	for n := range editors {
		all.Go(func() { setMeta(t, e, fmt.Sprintf("k%d", n)) })
	}
	all.Wait()
	v, _ := value(t, client, keys.Override("web", "web-1"))
	if n := strings.Count(v, `"k`); n != editors {
		t.Errorf("%s has %d of %d edits", v, n, editors)
	}
}

// setMeta sets a key of the override's meta, and tries again after conflicts.
func setMeta(t *testing.T, e entry.Editor, key string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		_, _, err := e.Patch(ctx, "web", "web-1", []byte(`{"meta":{"`+key+`":"x"}}`))
		if err == nil {
			return
		}
		if !errors.Is(err, discovery.ErrConflict) {
			t.Error(err)
			return
		}
	}
}

// rival changes a key before each transaction of an editor, so that the editor's write comes
// after its change.
type rival struct {
	clientv3.KV
	change func()
}

func (r rival) Txn(ctx context.Context) clientv3.Txn {
	r.change()
	return r.KV.Txn(ctx)
}

// An override does not depend on the agent's record, which changes each time the instance's
// checks do. It needs an instance that is there.
func TestOverrideOfAFlappingInstance(t *testing.T) {
	e, client := editor(t)
	direct := client.KV
	n := 0
	client.KV = rival{direct, func() {
		n++
		i := discovery.Instance{Service: "web", ID: "web-1", Node: "host-7", Address: "10.0.0.1", Port: 80, Weight: n, Slots: 1,
			Status: discovery.Passing, Owner: "o", Run: "r"}
		if _, err := direct.Put(t.Context(), keys.Instance("web", "web-1"), string(i.Encode())); err != nil {
			t.Error(err)
		}
	}}
	if _, err := e.Override(t.Context(), "web", "web-1", drain, entry.Options{}); err != nil {
		t.Errorf("a new override: %v", err)
	}
	if _, _, err := e.Patch(t.Context(), "web", "web-1", []byte(`{"weight":3}`)); err != nil {
		t.Errorf("a changed override: %v", err)
	}
	if _, err := e.Remove(t.Context(), "web", "web-1", entry.Targets{Override: true}, entry.Options{}); err != nil {
		t.Errorf("a removal: %v", err)
	}
	n = 0
	client.KV = rival{direct, func() {
		if n++; n == 2 { // between the editor's read and its write
			if _, err := direct.Delete(t.Context(), keys.Instance("web", "web-1")); err != nil {
				t.Error(err)
			}
		}
	}}
	if _, err := e.Override(t.Context(), "web", "web-1", drain, entry.Options{}); !errors.Is(err, discovery.ErrNotFound) {
		t.Errorf("of an instance that was deregistered meanwhile: %v, want not found", err)
	}
}

// An instance that is deregistered between an edit's read and its write gets no override: its
// tombstone is no instance.
func TestOverrideOfADeregisteredInstance(t *testing.T) {
	e, client := editor(t)
	direct := client.KV
	put := func(leaving bool) {
		i := discovery.Instance{Service: "web", ID: "web-1", Node: "host-7", Address: "10.0.0.1", Port: 80, Weight: 1, Slots: 1,
			Status: discovery.Passing, Owner: "o", Run: "r", Leaving: leaving}
		lease := etcdtest.Must(client.Grant(t.Context(), 60))
		if _, err := direct.Put(t.Context(), keys.Instance("web", "web-1"), string(i.Encode()), clientv3.WithLease(lease.ID)); err != nil {
			t.Error(err)
		}
	}
	put(false)
	n := 0
	client.KV = rival{direct, func() {
		if n++; n == 2 {
			put(true)
		}
	}}
	if _, err := e.Override(t.Context(), "web", "web-1", drain, entry.Options{}); !errors.Is(err, discovery.ErrNotFound) {
		t.Errorf("%v, want not found", err)
	}
	if got, _ := value(t, client, keys.Override("web", "web-1")); got != "" {
		t.Errorf("an override was written: %s", got)
	}
}

// An edit with a TTL that others overtake leaves no lease behind.
func TestOvertakenEditLeavesNoLease(t *testing.T) {
	e, client := editor(t)
	direct := client.KV
	n := 0
	client.KV = rival{direct, func() {
		if n++; n > 6 { // three attempts
			return
		}
		value := fmt.Sprintf(`{"service":"db","id":"a","address":"10.0.0.5","port":%d}`, n)
		if _, err := direct.Put(t.Context(), keys.Static("db", "a"), value); err != nil {
			t.Error(err)
		}
	}}
	if _, err := e.PutStatic(t.Context(), "db", "a", at("10.0.0.6"), entry.Options{TTL: time.Hour}); err != nil {
		t.Error(err)
	}
	left, err := client.Leases(t.Context())
	if err != nil || len(left.Leases) != 1 {
		t.Errorf("%d leases are left, want that of the entry; %v", len(left.Leases), err)
	}
}

// An edit with a TTL that etcd refuses leaves no lease behind.
func TestRefusedEditLeavesNoLease(t *testing.T) {
	e, open := editor(t)
	endpoint := open.Endpoints()[0]
	root := etcdtest.EnableAuth(t, endpoint)
	etcdtest.PermitPrefix(t, root, clientv3.PermissionType(clientv3.PermRead), keys.Prefix())
	e.Client = etcdtest.User(t, endpoint, "agent")
	if _, err := e.PutStatic(t.Context(), "db", "a", at("10.0.0.6"), entry.Options{TTL: time.Hour}); etcd.Refused(err) != etcd.RefusedPermission {
		t.Errorf("%v, want that it is refused", err)
	}
	left, err := root.Leases(t.Context())
	if err != nil || len(left.Leases) > 0 {
		t.Errorf("%d leases are left; %v", len(left.Leases), err)
	}
}
