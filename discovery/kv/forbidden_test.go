package kv

import (
	"context"
	"log/slog"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"disc/discovery"
	"disc/discovery/devetcd"
	"disc/discovery/devetcd/etcdtest"
	"disc/discovery/etcd"
	"disc/discovery/retry/retrytest"
)

// A directory that etcd forbids to read holds up no other one.
func TestForbiddenDirectory(t *testing.T) {
	t.Parallel()
	keys := discovery.NewKeys("test")
	s := etcdtest.StartWith(t, devetcd.Options{Configure: func(c *embed.Config) { c.BcryptCost = 4 }})
	link := etcdtest.StartLink(t, s.Endpoint())
	root, client := etcdtest.EnableAuth(t, s.Endpoint()), etcdtest.User(t, link.Endpoint(), "agent")
	permit := func(prefix string) {
		t.Helper()
		etcdtest.PermitPrefix(t, root, clientv3.PermissionType(clientv3.PermRead), prefix)
	}
	permit(keys.Epoch())
	permit(keys.KV() + "a/")
	permit(keys.KV() + "b/")

	f := &fixture{t: t, etcd: root, Store: etcdtest.Must(New(client, keys, Options{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}))}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	defer func() { cancel(); <-done }()
	put := func(key, value string) int64 {
		t.Helper()
		return etcdtest.Must(root.Put(t.Context(), keys.KV()+key, value)).Header.Revision
	}
	put("a/x", "1")
	put("b/x", "1")
	f.get("a/x", Read{})
	f.get("b/x", Read{})

	prefix := keys.KV() + "b/"
	etcdtest.Must(root.RoleRevokePermission(t.Context(), "agent", prefix, clientv3.GetPrefixRangeEnd(prefix)))
	link.Cut()
	link.Mend()
	retrytest.Eventually(t, "the copy of b/ to go", func() bool {
		_, _, err := f.Get(t.Context(), "b/x", Read{})
		return etcd.Refused(err) == etcd.RefusedPermission
	})
	revision := put("a/x", "2")
	retrytest.Eventually(t, "a/ to be current", func() bool {
		got, _, err := f.Get(t.Context(), "a/x", Read{MinRevision: revision})
		return err == nil && string(got.Value) == "2"
	})
	permit(prefix)
	retrytest.Eventually(t, "b/ to be read again", func() bool {
		_, _, err := f.Get(t.Context(), "b/x", Read{})
		return err == nil
	})
}
