package kv

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"disc/discovery/devetcd/etcdtest"
)

// leases returns the leases that etcd has.
func (f *fixture) leases() map[clientv3.LeaseID]bool {
	f.t.Helper()
	all := map[clientv3.LeaseID]bool{}
	for _, l := range etcdtest.Must(f.etcd.Leases(f.t.Context())).Leases {
		all[l.ID] = true
	}
	return all
}

func (f *fixture) write(ops ...Op) {
	f.t.Helper()
	if _, err := f.Write(f.t.Context(), ops...); err != nil {
		f.t.Fatal(err)
	}
}

// A key that is replaced or deleted leaves no lease behind.
func TestReplacedLeasesAreRevoked(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{})
	put := func(key string, ttl time.Duration) Op { return Op{Key: key, Value: []byte("1"), TTL: ttl} }
	wants := func(what string, want int) {
		t.Helper()
		if got := f.leases(); len(got) != want {
			t.Errorf("%s: %d leases, want %d", what, len(got), want)
		}
	}
	for n := range 300 {
		f.write(put("a", time.Minute+time.Duration(n)*time.Second))
	}
	wants("300 writes of one key", 1)
	f.write(put("a", 0))
	wants("a write without a ttl", 0)

	f.write(put("a", time.Hour), put("b", time.Hour), put("c", time.Minute))
	wants("a write of three keys with two ttls", 2)
	f.write(put("a", time.Hour))
	wants("the lease of a has another key", 3)
	f.write(Op{Key: "b", Delete: true})
	wants("its last key is deleted", 2)
	f.write(Op{Key: "a", Delete: true}, Op{Key: "c", Delete: true})
	wants("all are deleted", 0)

	for n := range 20 {
		f.write(put(fmt.Sprintf("dir/%d", n), time.Hour))
	}
	wants("a directory", 20)
	if _, _, err := f.DeleteBelow(t.Context(), "dir/"); err != nil {
		t.Fatal(err)
	}
	wants("the directory is deleted", 0)

	many := make([]Op, MaxOps)
	for n := range many {
		many[n] = put(strconv.Itoa(n), time.Hour)
	}
	f.write(many...)
	f.write(many...)
	wants("the largest write, twice", 1)
}

// Only leases that a Store granted are revoked, and only if they have no key.
func TestLeasesOfOthersStay(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{})
	theirs := etcdtest.Must(f.etcd.Grant(t.Context(), 3600)).ID
	if _, err := f.etcd.Put(t.Context(), f.prefix+"a", "1", clientv3.WithLease(theirs)); err != nil {
		t.Fatal(err)
	}
	f.write(Op{Key: "a", Value: []byte("2")})
	if !f.leases()[theirs] {
		t.Error("the lease that somebody else granted is revoked")
	}

	f.write(Op{Key: "b", Value: []byte("1"), TTL: time.Hour})
	ours := f.get("b", Read{Linearizable: true}).Lease
	if _, err := f.etcd.Put(t.Context(), "elsewhere", "1", clientv3.WithLease(ours)); err != nil {
		t.Fatal(err)
	}
	f.write(Op{Key: "b", Delete: true})
	if got := etcdtest.Must(f.etcd.Get(t.Context(), "elsewhere")); len(got.Kvs) != 1 {
		t.Error("the key that somebody attached to the lease is deleted")
	}
}

func TestLeaseIDs(t *testing.T) {
	for range 1000 {
		id := newLeaseID()
		if !isOwnLease(id) {
			t.Fatalf("%x is not recognized", int64(id))
		}
		if isOwnLease(id+1) || isOwnLease(-id) {
			t.Fatalf("what is near %x is taken for a Store's own", int64(id))
		}
	}
	if isOwnLease(clientv3.NoLease) {
		t.Error("no lease is taken for a Store's own")
	}
}

// Writers replace each other's keys, alone and together, and some of them give up before
// they have an answer. No key is lost, and no lease is left but by those who gave up.
func TestReplacedLeasesUnderRaces(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{})
	keys := []string{"a", "b", "c"}
	for _, key := range keys {
		f.write(Op{Key: key, TTL: time.Hour})
	}
	for round, mayGiveUp := range []bool{false, true} {
		var writers errgroup.Group
		for range 8 {
			writers.Go(func() error {
				for range etcdtest.Length(30, 300) {
					var ops []Op
					for _, n := range rand.Perm(len(keys))[:1+rand.IntN(len(keys))] {
						ops = append(ops, Op{Key: keys[n], TTL: time.Hour})
					}
					ctx, cancel := t.Context(), context.CancelFunc(func() {})
					if mayGiveUp {
						ctx, cancel = context.WithTimeout(ctx, rand.N(5*time.Millisecond))
					}
					_, err := f.Write(ctx, ops...)
					cancel()
					if err != nil && !mayGiveUp {
						return err
					}
				}
				return nil
			})
		}
		if err := writers.Wait(); err != nil {
			t.Fatal(err)
		}
		used := map[clientv3.LeaseID]bool{}
		for _, key := range keys {
			used[f.get(key, Read{Linearizable: true}).Lease] = true
		}
		if left := f.leases(); !mayGiveUp && len(left) != len(used) {
			t.Errorf("round %d: %d leases, and the keys use %d", round, len(left), len(used))
		}
	}
}
