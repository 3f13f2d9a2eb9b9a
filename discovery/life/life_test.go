package life

import (
	"context"
	"strconv"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/etcd"
	"disc/discovery/retry/retrytest"
)

// The first agent of an etcd writes an epoch, and nothing else.
func TestFirstLife(t *testing.T) {
	t.Parallel()
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	a, b := newLife(t, client), newLife(t, client)
	first := a.check(t)
	if again := b.check(t); first.Epoch == "" || again.Epoch != first.Epoch {
		t.Errorf("the epochs are %q and %q", first.Epoch, again.Epoch)
	}
	for _, key := range []string{keys.Quarantine(), keys.FenceBase()} {
		if value, _ := get(t, client, key); value != "" {
			t.Errorf("%s is %q", key, value)
		}
	}
	if n, _ := a.Count(); n != 0 || !a.grants(t) || !b.grants(t) || a.Present().Base() != 0 {
		t.Errorf("%d new lives, and base %d", n, a.Present().Base())
	}
}

// Whoever finds that etcd has started over keeps all agents from granting anything, for the length
// of a quarantine, and raises the base of the fences above all that were given.
func TestStartsOver(t *testing.T) {
	t.Parallel()
	for name, restored := range map[string]func(t *testing.T, client *clientv3.Client, a *Life){
		"an earlier revision": func(_ *testing.T, _ *clientv3.Client, a *Life) { a.aged(1000) },
		"a jump of the revision": func(_ *testing.T, _ *clientv3.Client, a *Life) {
			a.aged(-RevisionJump)
		},
		"a jump of the revision after a long contact": func(t *testing.T, client *clientv3.Client, a *Life) {
			a.memory.at -= 2 * time.Hour
			r, err := client.Get(etcdtest.Context(t), keys.Epoch())
			if err != nil {
				t.Fatal(err)
			}
			a.Remember(Identity{HeaderOf(r.Header), string(r.Kvs[0].Value)})
			a.aged(-RevisionJump)
		},
		"an own record in an older state": func(t *testing.T, client *clientv3.Client, a *Life) {
			a.Wrote(a.Present(), "/own", put(t, client, "/own", "1")+1)
		},
		"an own lock in an older state": func(_ *testing.T, _ *clientv3.Client, a *Life) { a.Disprove("it is there") },
		"a wipe": func(t *testing.T, client *clientv3.Client, _ *Life) {
			if _, err := client.Delete(etcdtest.Context(t), keys.Epoch()); err != nil {
				t.Fatal(err)
			}
		},
		"a wipe, after which an agent without a memory was first": func(t *testing.T, client *clientv3.Client, _ *Life) {
			put(t, client, keys.Epoch(), "another")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
			short(t, client)
			a, b := newLife(t, client), newLife(t, client)
			before := a.check(t)
			b.check(t)
			restored(t, client, a)
			highest := max(a.memory.highestFence(), 0)

			after := a.check(t)
			if n, _ := a.Count(); n != 1 || after.Epoch == before.Epoch {
				t.Fatalf("%d new lives; the epoch was %s and is %s", n, before.Epoch, after.Epoch)
			}
			if base := a.Present().Base(); base != highest+BaseStep {
				t.Errorf("the base is %d, want %d", base, highest+BaseStep)
			}
			granted := a.grants(t) || b.grants(t)
			_, lease := get(t, client, keys.Quarantine())
			left, err := client.TimeToLive(etcdtest.Context(t), lease)
			switch over := lease == 0 || err == nil && left.TTL <= 0; { // already, on a slow machine
			case err != nil || !over && left.GrantedTTL != 2:
				t.Errorf("the quarantine's lease: %+v, %v", left, err)
			case granted && !over:
				t.Error("something is granted during the quarantine")
			}
			retrytest.Eventually(t, "the end of the quarantine", func() bool { return a.grants(t) })
			if b.grants(t) {
				t.Error("an agent that knows only the earlier life grants something")
			}
			if b.check(t).Epoch != after.Epoch || b.Present().Base() != highest+BaseStep || !b.grants(t) {
				t.Errorf("the other agent has base %d", b.Present().Base())
			}
			if value, _ := get(t, client, keys.FenceBase()); value != strconv.FormatInt(highest+BaseStep, 10) {
				t.Errorf("the base in etcd is %q", value)
			}
		})
	}
}

// An agent that knows of higher fences than the finder of a new life raises the base during its
// quarantine, and begins another life after that.
func TestBaseIsRaised(t *testing.T) {
	t.Parallel()
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	short(t, client)
	finder, during, late := newLife(t, client), newLife(t, client), newLife(t, client)
	for _, l := range []*Life{finder, during, late} {
		l.check(t)
	}
	finder.aged(10)
	during.aged(2 * BaseStep)
	late.aged(5 * BaseStep)
	first := finder.check(t)
	if now := during.check(t); now.Epoch != first.Epoch {
		t.Error("another life was begun during the quarantine")
	}
	if base, least := during.Present().Base(), int64(3*BaseStep); base < least {
		t.Errorf("the base is %d, want at least %d", base, least)
	}
	retrytest.Eventually(t, "the end of the quarantine", func() bool { return during.grants(t) })
	if finder.grants(t) {
		t.Error("the finder grants something under its own base, which is too low")
	}
	if now := late.check(t); now.Epoch == first.Epoch || late.Present().Base() < 6*BaseStep || during.grants(t) {
		t.Errorf("epoch %s after %s, base %d", now.Epoch, first.Epoch, late.Present().Base())
	}
}

// Fences end below 2^53, and the error says so.
func TestBaseIsUsedUp(t *testing.T) {
	t.Parallel()
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	put(t, client, keys.FenceBase(), strconv.FormatInt(MaxFence-BaseStep, 10))
	l := newLife(t, client)
	l.check(t)
	l.aged(10)
	if _, err := l.Check(etcdtest.Context(t), client, Identity{}); err == nil {
		t.Errorf("the base is %d", l.Present().Base())
	}
}

// What was learned of a new life stays known when another call, which had asked at the same time,
// learns of that life, too.
func TestLearnTwice(t *testing.T) {
	t.Parallel()
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	short(t, client)
	a := newLife(t, client)
	a.check(t)
	asked := a.Present().known
	a.aged(1000)
	a.check(t) // of the new life
	found, err := a.read(etcdtest.Context(t), client, asked)
	if err != nil {
		t.Fatal(err)
	}
	written := put(t, client, "/own", "1")
	a.Wrote(a.Present(), "/own", written)
	a.Remember(Identity{Header{Revision: written}, found.Epoch})
	a.learn(found, asked, "the epoch has changed")
	if a.Revision() != written || a.memory.own.revision != written {
		t.Errorf("revision %d and an own record of %d are known, want %d", a.Revision(), a.memory.own.revision, written)
	}
}

// overtaken is an etcd in which something else happens before the first write.
type overtaken struct {
	clientv3.KV
	before func() // each transaction
}

func (o overtaken) Txn(ctx context.Context) clientv3.Txn {
	o.before()
	return o.KV.Txn(ctx)
}

// An agent that another is faster than to begin a new life leaves no lease of a quarantine behind.
func TestOvertakenQuarantineLeavesNoLease(t *testing.T) {
	t.Parallel()
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	a, b := newLife(t, client), newLife(t, client)
	a.check(t)
	b.check(t)
	a.aged(1000)
	b.aged(1000)
	n := 0
	before := func() {
		if n++; n == 2 { // the first transaction reads
			b.check(t)
		}
	}
	now, err := a.Check(etcdtest.Context(t), overtaken{client, before}, Identity{})
	if err != nil || now.Epoch != b.Present().known.Epoch {
		t.Errorf("the epoch is %s, want that of the first; %v", now.Epoch, err)
	}
	left, err := client.Leases(etcdtest.Context(t))
	if err != nil || len(left.Leases) != 1 {
		t.Errorf("%d leases, want that of the quarantine; %v", len(left.Leases), err)
	}
}

// An agent that may not write a new life leaves no lease of a quarantine behind.
func TestRefusedQuarantineLeavesNoLease(t *testing.T) {
	t.Parallel()
	endpoint := etcdtest.Start(t).Endpoint()
	writer, reader := etcdtest.EnableAuth(t, endpoint), etcdtest.User(t, endpoint, "agent")
	etcdtest.PermitPrefix(t, writer, clientv3.PermissionType(clientv3.PermRead), keys.Prefix())
	a := newLife(t, writer)
	a.check(t)
	a.aged(1000)
	if _, err := a.Check(etcdtest.Context(t), reader.KV, Identity{}); etcd.Refused(err) != etcd.RefusedPermission {
		t.Errorf("%v, want that it is refused", err)
	}
	left, err := writer.Leases(etcdtest.Context(t))
	if err != nil || len(left.Leases) > 0 {
		t.Errorf("%d leases are left; %v", len(left.Leases), err)
	}
}

// What is given for the first epoch is written with it, once, and left out where etcd does not permit it.
func TestFirstWrites(t *testing.T) {
	t.Parallel()
	const key = "/first"
	write := []clientv3.Op{clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut(key, "1")}, nil)}
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	a := New(client, keys, Options{First: write})
	a.check(t)
	first := etcdtest.Must(client.Get(etcdtest.Context(t), key))
	epoch := etcdtest.Must(client.Get(etcdtest.Context(t), keys.Epoch()))
	if len(first.Kvs) != 1 || first.Kvs[0].CreateRevision != epoch.Kvs[0].CreateRevision {
		t.Errorf("written: %v, with the epoch of revision %d", first.Kvs, epoch.Kvs[0].CreateRevision)
	}
	short(t, client)
	a.aged(1000)
	a.check(t) // another life
	if again := etcdtest.Must(client.Get(etcdtest.Context(t), key)); again.Kvs[0].Version != 1 {
		t.Error("it is written again with a later epoch")
	}

	client = etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	late := New(client, keys, Options{First: write})
	late.NotFirst()
	if late.Known() || late.check(t).Epoch == "" || !late.Known() {
		t.Error("there is no epoch")
	}
	if value, _ := get(t, client, key); value != "" {
		t.Error("it is written by an agent that knows that it is not the first")
	}

	endpoint := etcdtest.Start(t).Endpoint()
	root, user := etcdtest.EnableAuth(t, endpoint), etcdtest.User(t, endpoint, "agent")
	etcdtest.PermitPrefix(t, root, clientv3.PermissionType(clientv3.PermReadWrite), keys.Prefix())
	b := New(user, keys, Options{First: write})
	if now := b.check(t); now.Epoch == "" {
		t.Error("there is no epoch")
	}
	if value, _ := get(t, root, key); value != "" {
		t.Errorf("%s is %q", key, value)
	}
}
