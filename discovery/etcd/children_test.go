package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/etcd"
)

func TestChildren(t *testing.T) {
	t.Parallel()
	client, ctx := etcdtest.Client(t, etcdtest.Start(t).Endpoint()), timeout(t)
	for _, key := range []string{"/a/b1", "/a/b2", "/a/b2-1/x", "/a/b2/x", "/a/b2/y/z", "/a/b20", "/a/c/", "/a//d", "/a0", "/b"} {
		if _, err := client.Put(ctx, key, "v"); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 20 {
		if _, err := client.Put(ctx, fmt.Sprintf("/many/%d/%d", n%4, n), "v"); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		prefix string
		want   []string
	}{
		{"/a/", []string{"/", "b1", "b2", "b2-1/", "b2/", "b20", "c/"}},
		{"/a/b2", []string{"b2", "b2-1/", "b2/", "b20"}},
		{"/a/b2/", []string{"x", "y/"}},
		{"/a/b2/y", []string{"y/"}},
		{"/many/", []string{"0/", "1/", "2/", "3/"}},
		{"/none/", nil},
	} {
		for _, page := range []int64{1, 2, 3, 100} {
			t.Run(fmt.Sprint(test.prefix, " by ", page), func(t *testing.T) {
				var got []string
				for child, err := range etcd.Children(ctx, client, test.prefix, page) {
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, child)
				}
				if !slices.Equal(got, test.want) {
					t.Errorf("got %q, want %q", got, test.want)
				}
			})
		}
	}
	for range etcd.Children(ctx, client, "/many/", 1) {
		break // which must end it
	}
}

func TestChildrenFails(t *testing.T) {
	t.Parallel()
	client := etcdtest.Client(t, etcdtest.Start(t).Endpoint())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n := 0
	for child, err := range etcd.Children(ctx, client, "/a/", 1) {
		if n++; child != "" || !errors.Is(err, context.Canceled) {
			t.Errorf("got %q, %v, want %v", child, err, context.Canceled)
		}
	}
	if n != 1 {
		t.Errorf("%d children, want one error", n)
	}
}

// A compaction between two pages does not end the listing.
func TestChildrenGoOnAfterCompaction(t *testing.T) {
	t.Parallel()
	client, ctx := etcdtest.Client(t, etcdtest.Start(t).Endpoint()), timeout(t)
	for _, key := range []string{"/a/1", "/a/2", "/a/3"} {
		if _, err := client.Put(ctx, key, "v"); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for child, err := range etcd.Children(ctx, client, "/a/", 1) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, child)
		last, err := client.Put(ctx, "/b", "v")
		if err == nil {
			_, err = client.Compact(ctx, last.Header.Revision)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"1", "2", "3"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
