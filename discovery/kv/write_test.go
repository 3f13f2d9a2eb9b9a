package kv

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"disc/discovery"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/retry/retrytest"
)

func TestDeleteBelow(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{})
	for _, key := range []string{"app", "app/a", "app/b/c", "app0"} {
		f.put(key, "1")
	}
	_, fresh, err := f.Snapshot(t.Context(), "app/")
	if err != nil {
		t.Fatal(err)
	}
	deleted, revision, err := f.DeleteBelow(t.Context(), "app/")
	if err != nil || deleted != 2 {
		t.Fatalf("%d, %v", deleted, err)
	}
	if got := f.keys("", Read{MinRevision: revision}); !slices.Equal(got, []string{"app", "app0"}) {
		t.Errorf("%v", got)
	}
	f.keys("app/", Read{MinRevision: revision})
	events, _, ok := f.Events("app/", discovery.Cursor{Epoch: fresh.Epoch, Revision: fresh.Revision})
	if !ok || len(events) != 2 || events[0].Revision != revision || events[1].Revision != revision {
		t.Errorf("%v %+v; want two of revision %d", ok, events, revision)
	}
	for _, prefix := range []string{"", "/", "app", "a//"} {
		if _, _, err := f.DeleteBelow(t.Context(), prefix); !errors.Is(err, discovery.ErrInvalid) {
			t.Errorf("%q: %v", prefix, err)
		}
	}
}

func TestConditions(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{})
	revision := f.put("a", "1")
	for _, test := range []struct {
		name string
		op   Op
		want int64 // revision of the key in the error; -1: none
	}{
		{"another revision", Op{Key: "a", Value: []byte("2"), If: new(revision - 1)}, revision},
		{"must not be there", Op{Key: "a", Value: []byte("2"), If: new(int64(0))}, revision},
		{"must be there", Op{Key: "b", Value: []byte("2"), Exists: true}, 0},
		{"deletion of another revision", Op{Key: "a", Delete: true, If: new(int64(7777))}, revision},
		{"its revision", Op{Key: "a", Value: []byte("2"), If: new(revision)}, -1},
		{"is not there", Op{Key: "b", Value: []byte("2"), If: new(int64(0))}, -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := f.Write(t.Context(), test.op)
			var condition *ConditionError
			switch {
			case test.want == -1 && err != nil:
				t.Error(err)
			case test.want >= 0 && (!errors.As(err, &condition) || condition.Key != test.op.Key || condition.Revision != test.want || !errors.Is(err, discovery.ErrConflict)):
				t.Error(err)
			}
		})
	}
	// All or nothing.
	if _, err := f.Write(t.Context(), Op{Key: "c", Value: []byte("1")}, Op{Key: "d", Value: []byte("1"), If: new(int64(1))}); !errors.Is(err, discovery.ErrConflict) {
		t.Fatal(err)
	}
	if got := f.keys("", Read{Linearizable: true}); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("%v", got)
	}
}

func TestTTL(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	f := start(t, s.Endpoint(), s.Endpoint(), Options{})
	revision, err := f.Write(t.Context(), Op{Key: "a", Value: []byte("1"), TTL: 2 * time.Second}, Op{Key: "b", Value: []byte("1")})
	if err != nil {
		t.Fatal(err)
	}
	if i := f.get("a", Read{MinRevision: revision}); i.Lease == 0 {
		t.Error("the key has no lease")
	}
	if _, err := f.Write(t.Context(), Op{Key: "a", Value: []byte("2"), TTL: time.Minute, If: new(int64(0))}); !errors.Is(err, discovery.ErrConflict) {
		t.Error(err)
	}
	leases, err := f.etcd.Leases(t.Context())
	if err != nil || len(leases.Leases) != 1 {
		t.Errorf("%v, %v; want the one lease, and none of the write that was refused", leases, err)
	}
	retrytest.Eventually(f.t, "it lapses", func() bool { return slices.Equal(f.keys("", Read{}), []string{"b"}) })

	var ops []Op
	for n := range MaxOps {
		ops = append(ops, Op{Key: fmt.Sprint(n), TTL: time.Duration(1+n%2) * time.Minute})
	}
	if _, err := f.Write(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
	if leases, err := f.etcd.Leases(t.Context()); err != nil || len(leases.Leases) != 2 {
		t.Errorf("%v, %v; want one lease for each ttl of a write", leases, err)
	}
}

func TestBadWrites(t *testing.T) {
	t.Parallel()
	f := &Store{}
	many := make([]Op, MaxOps+1)
	for want, ops := range map[string][]Op{
		"give 1 to 64":                         many,
		"the key is empty":                     {{}},
		"empty segment":                        {{Key: "a//b"}},
		"has an empty segment":                 {{Key: "/a"}},
		"is a prefix":                          {{Key: "a/"}},
		`or ".."`:                              {{Key: "a/../b"}},
		"control characters":                   {{Key: "a\x00"}},
		"at most 512 are":                      {{Key: strings.Repeat("a", 513)}},
		"at most 524288 are":                   {{Key: "a", Value: make([]byte, MaxValue+1)}},
		"at most 1048576 are":                  {{Key: "a", Value: make([]byte, MaxValue)}, {Key: "b", Value: make([]byte, MaxValue)}},
		"twice":                                {{Key: "a"}, {Key: "a", Delete: true}},
		"ttl 1ms of key":                       {{Key: "a", TTL: time.Millisecond}},
		"has a value or a ttl":                 {{Key: "a", Delete: true, TTL: time.Minute}},
		"revision -1 of key \"a\" is negative": {{Key: "a", If: new(int64(-1))}},
	} {
		t.Run(want, func(t *testing.T) {
			if _, err := f.Write(t.Context(), ops...); !errors.Is(err, discovery.ErrInvalid) || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
}
